"""Small networks for all tests: random tensors, random BERT checkpoints, a predictor whose law is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nas.layout import Dimensions, tensor_axes, tensor_shape
from nas.space import Genomes, SearchSpace, Subnet

WORDS = tuple(
    "the a of to and in is it you that he was for on are with as his they be at one have this from".split()  # noqa: SIM905
)


def make_dimensions(head: str = "embedding", **changes: Any) -> Dimensions:
    sizes: dict[str, Any] = {
        "vocab_size": 120,
        "max_positions": 40,
        "token_types": 2,
        "hidden_size": 32,
        "num_layers": 3,
        "num_heads": 4,
        "head_size": 8,
        "ffn_size": 64,
        "layer_norm_epsilon": 1e-12,
        "activation": "gelu",
        "head": head,
        "num_labels": 3 if head == "classification" else 0,
        "embedding_size": 32 if head == "embedding" else 0,
    }
    return Dimensions(**sizes | changes)


def random_tensors(dimensions: Dimensions, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights everywhere, biases and layer norms included: ones and zeros would hide errors."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, axes in tensor_axes(dimensions).items():
        shape = tensor_shape(axes, dimensions)
        centre = 1.0 if name.endswith("norm.weight") else 0.0
        tensors[name] = (centre + 0.25 * rng.standard_normal(shape)).astype(np.float32)
    return tensors


def make_space(**changes: Any) -> SearchSpace:
    choices: dict[str, Any] = {
        "num_layers": 3,
        "hidden_size": (16, 24, 32),
        "depth": (1, 2, 3),
        "num_heads": (1, 2, 3, 4),
        "head_size": (4, 8),
        "ffn_size": (16, 32, 48, 64),
    }
    return SearchSpace(**choices | changes)


def random_subnets(space: SearchSpace, n: int, seed: int = 0) -> list[Subnet]:
    genomes = space.sample(n, np.random.default_rng(seed))
    return [space.largest, space.smallest, *(space.decode(genome) for genome in genomes)]


def random_feeds(dimensions: Dimensions, batch: int = 3, sequence: int = 11, seed: int = 0) -> dict[str, np.ndarray]:
    """Token ids with padding of different lengths and both token types."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, sequence + 1, batch)
    lengths[0] = sequence
    mask = (np.arange(sequence) < lengths[:, None]).astype(np.int64)
    return {
        "input_ids": rng.integers(0, dimensions.vocab_size, (batch, sequence)) * mask,
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, dimensions.token_types, (batch, sequence)) * mask,
    }


class SizePredictor:
    """A latency predictor whose law is known: 1 ms plus one for every 10,000 multiply-adds per token."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.asked = 0

    def predict(self, genomes: Genomes) -> tuple[np.ndarray, np.ndarray]:
        self.asked += len(genomes)
        population = self.space.expand(genomes)
        width = 4 * (population.num_heads * population.head_size).sum(1) + 2 * population.ffn_size.sum(1)
        latency_ms = 1 + population.hidden_size * width / 1e4
        return latency_ms, latency_ms * 1.1


def write_bert(folder: Path, vocabulary: Sequence[str] = (), **changes: Any) -> Path:
    """A random two-layer BERT checkpoint with its tokenizer, as transformers saves it."""
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(f"##{letter}" for letter in letters), *WORDS, *vocabulary]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"[unused{index}]" for index in range(20)), *pieces]
    tokens = list(dict.fromkeys(tokens))
    (folder / "vocab.txt").write_text("\n".join(tokens))
    transformers.BertTokenizerFast(vocab={token: row for row, token in enumerate(tokens)}).save_pretrained(folder)
    sizes: dict[str, Any] = {
        "vocab_size": len(tokens),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 40,
    }
    labels = changes.pop("num_labels", None)
    config = transformers.BertConfig(**sizes | changes)
    torch.manual_seed(1)
    if labels is None:
        model: Any = transformers.BertModel(config)
    else:
        config.num_labels = labels
        model = transformers.BertForSequenceClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder
