"""What has to stay float where scores know positions: ``python tests/performance/position_products.py [--quick]
[--json]``.

Random networks of MiniLM-L6's size, one of BERT and one of DeBERTa-v3, whose weights have heavy tails. Of each there
are the float model, ours, and what ``quantize_static`` makes of it (unsigned activations, a scale a channel) where it
quantizes weight products alone, products of two activations too, and with them either sums or the softmax. They are
compared on texts with padding; the float models and ours are timed in turn at 1 x 128. The last line of ``--json``
holds, by family and form, ``flips`` (the share of tokens whose largest logit is another than the float model's) and
``cosine``, by family ``ratio`` (the float model's latency over that of ours), and the latency of DeBERTa over that of
BERT, ``float_ratio`` and ``int8_ratio``.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from ortnas.bench.fingerprint import fingerprint
from ortnas.bench.session import Setup, make_session
from ortnas.bench.timing import TimingProtocol, Workload, time_interleaved
from ortnas.export.build import Exporter
from ortnas.export.inference import drift, load, run
from ortnas.export.int8.recipes import choose_recipe
from ortnas.export.weights import SupernetFolder
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.presets import default_space
from ortnas.nas.arrays import Array, Feeds
from ortnas.nas.console import Console
from tests.networks import SHAPES, make_dimensions, random_feeds, random_tensors

_SIZES = {
    "vocab_size": 3000,
    "max_positions": 512,
    "hidden_size": 384,
    "num_layers": 6,
    "num_heads": 6,
    "head_size": 64,
    "ffn_size": 1536,
    "num_labels": 9,
}
_OWN = {"bert": {}, "deberta-v2": {"position_buckets": 256, "farthest_position": 512}}
_OPERATORS = {
    "weight products": ["Gemm"],
    "all products": ["Gemm", "MatMul"],
    "products and sums": ["Gemm", "MatMul", "Add"],
    "products and softmax": ["Gemm", "MatMul", "Softmax"],
}


class _Reader(CalibrationDataReader):
    def __init__(self, batches: Sequence[Feeds]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> Feeds | None:
        return next(self._batches, None)


def heavy_tailed(dimensions: Dimensions) -> dict[str, Array]:
    """Weights of Student's t with 4 degrees of freedom, layer norms near one."""
    rng, tensors = np.random.default_rng(0), random_tensors(dimensions)
    for name, tensor in tensors.items():
        if name.endswith("norm.weight"):
            values = 1 + 0.1 * rng.standard_normal(tensor.shape)
        elif name.endswith("bias"):
            values = 0.05 * rng.standard_normal(tensor.shape)
        elif name.startswith("layers"):
            inputs = tensor.shape[-1] if ".ffn" in name else dimensions.hidden_size
            spread = 1.6 if ".query." in name or ".key." in name else 1.0
            values = spread * rng.standard_t(4, tensor.shape) / np.sqrt(2 * inputs)
        else:
            values = 0.5 * rng.standard_normal(tensor.shape)
        tensors[name] = values.astype(np.float32)
    return tensors


def quantized(model: bytes, operators: list[str], batches: Sequence[Feeds]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quantized.onnx"
        quantize_static(
            onnx.load_from_string(model),
            path,
            _Reader(batches),
            op_types_to_quantize=operators,
            per_channel=True,
            activation_type=QuantType.QUInt8,
        )
        return path.read_bytes()


def make_forms(family: str, operators: dict[str, list[str]]) -> tuple[dict[str, bytes], Feeds]:
    """Models by form, and feeds to compare them on."""
    dimensions = make_dimensions("token-classification", **SHAPES[family] | _SIZES | _OWN[family])
    space = default_space(dimensions)
    supernet = SupernetFolder(Path(), dimensions, space, heavy_tailed(dimensions), (), {}, "")
    batches = [random_feeds(dimensions, batch=4, sequence=96, seed=seed) for seed in range(6)]
    exporter = Exporter(supernet, choose_recipe(fingerprint()["isa"]), batches)
    float_model = exporter.build(dimensions.full_subnet, "fp32")
    names = [item.name for item in onnx.load_from_string(float_model).graph.input]
    plain = [{name: batch[name] for name in names} for batch in batches]
    forms = {"fp32": float_model, "ours": exporter.build(dimensions.full_subnet, "int8")}
    forms |= {name: quantized(float_model, kinds, plain) for name, kinds in operators.items()}
    return forms, random_feeds(dimensions, batch=8, sequence=96, seed=77)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer runs, and weight products alone beside ours")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    console = Console(to_stderr=arguments.json)
    logging.disable(logging.WARNING)
    operators = dict(list(_OPERATORS.items())[:1]) if arguments.quick else _OPERATORS
    protocol = TimingProtocol.fixed(5 if arguments.quick else 30, runs=3)
    figures: dict[str, float] = {}
    rows, timed_models = [], dict[str, bytes]()
    for family in _OWN:
        forms, feeds = make_forms(family, operators)
        timed_models |= {f"{family} {name}": forms[name] for name in ("fp32", "ours")}
        seen = feeds["attention_mask"] == 1
        outputs = {name: run(load(model), feeds)[seen] for name, model in forms.items()}
        for name in list(forms)[1:]:
            apart = drift(outputs[name], outputs["fp32"])
            figures |= {f"{family} {name} flips": apart.flips, f"{family} {name} cosine": apart.cosine}
            rows.append((family, name, f"{100 * apart.flips:.1f}", f"{apart.cosine:.3f}"))
    sessions = {name: make_session(model, Setup()) for name, model in timed_models.items()}
    samples = time_interleaved(sessions, "bert fp32", [Workload(1, 128, _SIZES["vocab_size"])], protocol)
    latency_ms = {name: float(np.median(timed.model_ns)) / 1e6 for name, timed in samples.items()}
    figures |= {f"{family} ratio": latency_ms[f"{family} fp32"] / latency_ms[f"{family} ours"] for family in _OWN}
    for precision, form in (("float", "fp32"), ("int8", "ours")):
        figures[f"{precision}_ratio"] = latency_ms[f"deberta-v2 {form}"] / latency_ms[f"bert {form}"]
    console.table("quantized", ("family", "form", "labels changed %", "cosine"), rows)
    console.say(", ".join(f"{name} {value:.2f}" for name, value in figures.items() if name.endswith("ratio")))
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
