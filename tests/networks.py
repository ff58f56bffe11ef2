"""Small networks for all tests: random tensors, random checkpoints, a predictor whose law is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ortnas.bench.fingerprint import fingerprint
from ortnas.export.int8.recipes import choose_recipe
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.families import FAMILIES
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.layout import network_of, tensor_axes, tensor_shape
from ortnas.nas.architecture.sentence_modules import SentenceModule
from ortnas.nas.architecture.space import Genomes, SearchSpace
from ortnas.nas.architecture.subnet import Subnet

# The one whose products are exact on the machine that tests run on.
HOST_RECIPE = choose_recipe(fingerprint()["isa"])
WORDS = tuple(
    "the a of to and in is it you that he was for on are with as his they be at one have this from".split()  # noqa: SIM905
)


def make_dimensions(head: str = "embedding", **changes: Any) -> Dimensions:
    row = HEADS[head]
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
        "num_labels": (row.label_rows or 3) if row.has_classifier else 0,
        "embedding_size": (32 if row.makes_embeddings else 24) if row.makes_vectors else 0,
    }
    return Dimensions(**sizes | changes)


# Changes to make_dimensions: the shapes of network that a head can sit on.
SHAPES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"family": "roberta", "token_types": 1, "padding_id": 1},
    "distilbert": {"family": "distilbert", "token_types": 1, "head_activation": "relu"},
    "electra": {"family": "electra", "table_size": 20, "head_activation": "gelu"},
    "mpnet": {"family": "mpnet", "token_types": 1, "padding_id": 1},
    "modernbert": {
        "family": "modernbert",
        "token_types": 1,
        "head_activation": "gelu",
        "rotary_theta": 16e4,
        "local_theta": 1e4,
        "local_reach": 3,
        "local_layers": (1, 2),
    },
    "jina": {"family": "jina_embeddings_v3", "token_types": 1, "padding_id": 1, "rotary_theta": 2e4},
    "deberta-v2": {
        "family": "deberta-v2",
        "token_types": 1,
        "head_activation": "gelu",
        "position_buckets": 8,
        "farthest_position": 40,
    },
}
# Of a checkpoint, where transformers' own defaults are another network's.
SETTINGS: dict[str, dict[str, Any]] = {
    "deberta-v2": {
        "relative_attention": True,
        "share_att_key": True,
        "position_biased_input": False,
        "pos_att_type": "p2c|c2p",
        "norm_rel_ebd": "layer_norm",
        "position_buckets": 8,
    },
}


# Two poolings, and every kind of module behind them.
CHAIN: dict[str, Any] = {
    "pooling": ("mean", "max"),
    "modules": (
        SentenceModule("layer_norm"),
        SentenceModule("dense", 24, "tanh", has_bias=True),
        SentenceModule("normalize"),
        SentenceModule("truncate", 10),
    ),
    "embedding_size": 10,
}


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


def space_of(dimensions: Dimensions, **changes: Any) -> SearchSpace:
    """``make_space`` for a network that may want its heads whole."""
    if dimensions.rotary_theta:
        changes["head_size"] = (dimensions.head_size,)
    return make_space(**changes, is_gated=network_of(dimensions).is_gated)


def random_subnets(space: SearchSpace, n: int, seed: int = 0) -> list[Subnet]:
    genomes = space.sample(n, np.random.default_rng(seed))
    return [space.largest, space.smallest, *(space.decode(genome) for genome in genomes)]


def random_feeds(dimensions: Dimensions, batch: int = 3, sequence: int = 11, seed: int = 0) -> dict[str, np.ndarray]:
    """Token ids with padding of different lengths and all token types; ids from 2 on, as 1 is RoBERTa's padding."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, sequence + 1, batch)
    lengths[0] = sequence
    mask = (np.arange(sequence) < lengths[:, None]).astype(np.int64)
    return {
        "input_ids": rng.integers(2, dimensions.vocab_size, (batch, sequence)) * mask,
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, dimensions.token_types, (batch, sequence)) * mask,
    }


def full_feeds(dimensions: Dimensions, batch: int, sequence: int, seed: int = 0) -> dict[str, np.ndarray]:
    """As ``random_feeds``, without padding."""
    ids = np.random.default_rng([seed, 1]).integers(2, dimensions.vocab_size, (batch, sequence))
    feeds = random_feeds(dimensions, batch, sequence, seed)
    return {**feeds, "input_ids": ids, "attention_mask": np.ones_like(ids)}


class SizePredictor:
    """A latency predictor whose law is known: 1 ms plus one for every 10,000 multiply-adds per token."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.asked = 0

    def for_space(self, space: SearchSpace) -> SizePredictor:
        return SizePredictor(space)

    def predict(self, genomes: Genomes) -> tuple[np.ndarray, np.ndarray]:
        self.asked += len(genomes)
        population = self.space.expand(genomes)
        width = 4 * (population.num_heads * population.head_size).sum(1) + 2 * population.ffn_size.sum(1)
        latency_ms = 1 + population.hidden_size * width / 1e4
        return latency_ms, latency_ms * 1.1


def write_bert(folder: Path, vocabulary: Sequence[str] = (), **changes: Any) -> Path:
    """A random two-layer BERT checkpoint with its tokenizer, as transformers saves it."""
    head = "classification" if "num_labels" in changes else "embedding"
    return write_checkpoint(folder, "bert", head, vocabulary, **changes)


def write_checkpoint(
    folder: Path, family: str, head: str = "embedding", vocabulary: Sequence[str] = (), **changes: Any
) -> Path:
    """A random two-layer checkpoint of a model family and a head, with its tokenizer, as transformers saves it.

    ``changes`` are configuration entries under BERT's names.
    """
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    roberta_like = FAMILIES[family].positions_follow_padding
    tokenizer = _byte_level_tokenizer(vocabulary) if roberta_like else _word_piece_tokenizer(folder, vocabulary)
    tokenizer.save_pretrained(folder)
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 42 if roberta_like else 40,
        "num_labels": HEADS[head].label_rows or 3,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if roberta_like:
        settings["type_vocab_size"] = 1
    if family == "electra":
        settings["embedding_size"] = 20
    settings |= SETTINGS.get(family, {}) | changes
    config = transformers.AutoConfig.for_model(family, **FAMILIES[family].spell_settings(settings))
    torch.manual_seed(1)
    if HEADS[head].problem_type == "multi_label_classification":
        config.problem_type = HEADS[head].problem_type
    model = getattr(transformers, HEADS[head].auto_class).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def _word_piece_tokenizer(folder: Path, vocabulary: Sequence[str]) -> Any:
    """BERT's kind: word pieces in lower case, [CLS] a [SEP] and [CLS] a [SEP] b [SEP]."""
    import transformers
    from tokenizers import BertWordPieceTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(f"##{letter}" for letter in letters), *WORDS, *vocabulary]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"[unused{index}]" for index in range(20)), *pieces]
    tokens = list(dict.fromkeys(tokens))
    (folder / "vocab.txt").write_text("\n".join(tokens))
    tokenizer = BertWordPieceTokenizer({token: row for row, token in enumerate(tokens)})
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer,
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        mask_token="[MASK]",
    )


def _byte_level_tokenizer(vocabulary: Sequence[str]) -> Any:
    """RoBERTa's kind: byte-level pieces, <s> a </s> and <s> a </s> </s> b </s>."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f" {word}" for word in (*WORDS, *vocabulary) for _ in range(2)], trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )
