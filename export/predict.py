"""Runs this package: ``python predict.py "a text" ["another" ...]``. Needs onnxruntime, tokenizers and numpy only."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

FOLDER = Path(__file__).resolve().parent


class Model:
    """The packaged model. ``threads`` 0 lets ONNX Runtime choose."""

    def __init__(self, folder: Path = FOLDER, threads: int = 0) -> None:
        self.record = json.loads((folder / "ortnas.json").read_text(encoding="utf-8"))
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(self.record["max_length"])
        self.tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)

    def __call__(self, texts):
        """Texts, or (text, pair) tuples: unit embeddings [n, size] or logits [n, labels], float32."""
        encodings = self.tokenizer.encode_batch(list(texts))
        columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
        feeds = {
            name: np.array([getattr(encoding, column) for encoding in encodings], np.int64)
            for name, column in columns.items()
        }
        return self.session.run(None, feeds)[0]

    def describe(self, output):
        """One row of output as plain values: label probabilities, or the embedding."""
        labels = self.record["labels"]
        if not labels:
            return [round(float(value), 6) for value in output]
        exponentials = np.exp(output - output.max())
        return dict(zip(labels, (exponentials / exponentials.sum()).round(4).tolist(), strict=True))


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit('usage: python predict.py "a text" ["another text" ...]')
    model = Model()
    for text, row in zip(sys.argv[1:], model(sys.argv[1:]), strict=True):
        print(json.dumps({"text": text, "output": model.describe(row)}, ensure_ascii=False))
