"""What PyLate, or Stanford's ColBERT, does around an encoder whose tokens are compared one by one, as folders say."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken
from torch import Tensor

from ortnas.nas.data.late_texts import LateTexts
from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.config import CheckpointConfig
from ortnas.nas.training.checkpoint.folder import MODULES_FILE, read_file
from ortnas.nas.training.checkpoint.sentence_texts import (
    MODEL_FILE,
    SentenceTexts,
    read_model_file,
    read_sentence_texts,
)
from ortnas.nas.training.checkpoint.tokenizer import CheckpointTokenizer
from ortnas.nas.training.checkpoint.weights import read_tensors
from ortnas.nas.wording import listed, shown

# What Stanford's ColBERT writes beside its weights.
_STANFORD_FILE = "artifact.metadata"
_STANFORD_CLASS = "HF_ColBERT"
# What it says of itself, and of which type that is.
_STANFORD_KEYS: dict[str, type[str] | type[int] | type[bool]] = {
    "query_token_id": str,
    "doc_token_id": str,
    "query_maxlen": int,
    "doc_maxlen": int,
    "dim": int,
    "mask_punctuation": bool,
    "attend_to_mask_tokens": bool,
}
# Other values compute other scores.
_STANFORD_ONLY = {"similarity": "cosine", "interaction": "colbert"}
DENSE_WEIGHT = "linear.weight"
_MODULES = ("Transformer", "Dense")
_PACKAGES = ("sentence_transformers", "pylate")
# [CLS], the prefix, a token and [SEP].
_SHORTEST = 4
_LENGTHS = {"query_length": 32, "document_length": 180}
_SWITCHES = {"do_query_expansion": True, "attend_to_expansion_tokens": False}


@dataclass(frozen=True)
class LateInteraction:
    """``size`` is that of a token's vector; ``dense`` the folder of the layer that makes it, None where it is among the
    encoder's weights. ``queries`` is what a package needs beside prompts: lengths, the switches of mask tokens behind
    queries, and ``skiplist_words``. ``markers`` are tokens of the vocabulary that prompts put before texts."""

    size: int
    dense: Path | None
    has_bias: bool
    texts: SentenceTexts
    queries: Mapping[str, Any]
    markers: tuple[str, ...] = ()

    def late_texts(self, tokenizer: CheckpointTokenizer) -> LateTexts:
        prompts, queries = self.texts.prompts, self.queries
        return LateTexts(
            query_prompt=prompts["query"],
            document_prompt=prompts["document"],
            query_length=queries["query_length"],
            filling=tokenizer.roles["mask_token"] if queries["do_query_expansion"] else None,
            is_filling_attended=queries["attend_to_expansion_tokens"],
            skipped_words=tuple(queries["skiplist_words"]),
        )


def is_stanford(config: CheckpointConfig, folder: Path) -> bool:
    """Whether Stanford's ColBERT wrote the folder."""
    return _STANFORD_CLASS in config.architectures or (folder / _STANFORD_FILE).is_file()


def read_late_interaction(config: CheckpointConfig, folder: Path) -> LateInteraction | None:
    """None where the folder is a bare encoder. Raises CheckpointError for one that makes other vectors."""
    name = config.name
    if not (folder / MODULES_FILE).is_file():
        return _read_stanford(config, folder) if is_stanford(config, folder) else None
    entries = [entry if isinstance(entry, dict) else {} for entry in read_file(name, folder, MODULES_FILE, list)]
    kinds = tuple(str(entry.get("type")) for entry in entries)
    names = tuple(kind.rpartition(".")[2] for kind in kinds)
    if names != _MODULES or any(kind.partition(".")[0] not in _PACKAGES for kind in kinds):
        raise CheckpointError(
            f"checkpoint {name}: {MODULES_FILE} lists {listed(kinds)}; for late interaction, {listed(_MODULES)} of "
            f"{listed(_PACKAGES)} are served"
        )
    place = Path(str(entries[1].get("path")))
    if place.is_absolute() or ".." in place.parts:
        raise CheckpointError(
            f"checkpoint {name}: {MODULES_FILE} has a module in {shown(str(place))}, not in the folder"
        )
    settings = read_file(name, folder, str(place / "config.json"))
    size, has_bias = _dense(config, str(place), settings)
    model = read_model_file(name, folder)
    queries = _queries(name, model)
    prompts = {
        "query": _text(name, model, "query_prefix", "[Q] "),
        "document": _text(name, model, "document_prefix", "[D] "),
    }
    texts = replace(
        read_sentence_texts(config, folder, "feature-extraction"),
        max_length=min(queries["document_length"], config.max_positions),
        prompts=prompts,
        default_prompt="document",
    )
    return LateInteraction(size, folder / place, has_bias, texts, queries)


def _read_stanford(config: CheckpointConfig, folder: Path) -> LateInteraction:
    name = config.name
    document = read_file(name, folder, _STANFORD_FILE) if (folder / _STANFORD_FILE).is_file() else {}
    if absent := [key for key, kind in _STANFORD_KEYS.items() if type(document.get(key)) is not kind]:
        raise CheckpointError(
            f"checkpoint {name}: it is a ColBERT of Stanford's ({_STANFORD_CLASS}), and no {_STANFORD_FILE} beside it "
            f"tells {listed(absent)}: how texts are read is not guessed"
        )
    for key in ("query_maxlen", "doc_maxlen", "dim"):
        if document[key] < (1 if key == "dim" else _SHORTEST):
            raise CheckpointError(f"checkpoint {name}: {key} = {document[key]} in {_STANFORD_FILE} is too small")
    for key, value in _STANFORD_ONLY.items():
        if document.get(key, value) != value:
            raise CheckpointError(
                f"checkpoint {name}: {key} = {shown(document[key])} in {_STANFORD_FILE}; {value!r} alone is served"
            )
    markers = (document["query_token_id"], document["doc_token_id"])
    queries = {
        "query_length": document["query_maxlen"],
        "document_length": document["doc_maxlen"],
        "do_query_expansion": True,
        "attend_to_expansion_tokens": document["attend_to_mask_tokens"],
        "skiplist_words": list(string.punctuation) if document["mask_punctuation"] else [],
    }
    texts = SentenceTexts(
        min(document["doc_maxlen"], config.max_positions),
        False,
        {"query": f"{markers[0]} ", "document": f"{markers[1]} "},
        "document",
    )
    return LateInteraction(document["dim"], None, False, texts, queries, markers)


def fit_tokenizer(name: str, late: LateInteraction, tokenizer: CheckpointTokenizer) -> None:
    """Makes the tokenizer read the prompts as the tokens that the library puts there.

    Raises CheckpointError where it has none, or no mask token to fill queries up with.
    """
    backend = tokenizer.backend
    for marker in late.markers:
        if backend.token_to_id(marker) is None:
            raise CheckpointError(
                f"checkpoint {name}: {_STANFORD_FILE} marks texts by {shown(marker)}, which its tokenizer does not have"
            )
        backend.add_tokens([AddedToken(marker, normalized=False)])
    for prompt in late.texts.prompts.values():
        if prompt and len(backend.encode(prompt, add_special_tokens=False).ids) != 1:
            raise CheckpointError(
                f"checkpoint {name}: the prefix {shown(prompt)} in {MODEL_FILE} is not one token of its tokenizer; add "
                f"it there as a token"
            )
    if late.queries["do_query_expansion"] and "mask_token" not in tokenizer.roles:
        raise CheckpointError(f"checkpoint {name}: its tokenizer has no mask token, which queries are filled up with")


def check_bare(name: str, state: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError for weights of a Dense layer in a folder that does not say how it is used."""
    if DENSE_WEIGHT in state:
        raise CheckpointError(
            f"checkpoint {name}: its weights hold {DENSE_WEIGHT}, a layer behind the encoder, and neither "
            f"{MODULES_FILE} nor {_STANFORD_FILE} tells how texts are read: give the folder that has one of them"
        )


def read_dense(config: CheckpointConfig, late: LateInteraction, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the layer, float32 by canonical name; ``own`` are those beside the encoder's. Raises
    CheckpointError."""
    state = own if late.dense is None else read_tensors(config.name, late.dense)
    place = "the checkpoint" if late.dense is None else late.dense.name
    shapes = {"weight": (late.size, int(config.setting("hidden_size")))} | (
        {"bias": (late.size,)} if late.has_bias else {}
    )
    tensors = {}
    for kind, shape in shapes.items():
        tensor = state.get(f"linear.{kind}")
        if tensor is None or tuple(tensor.shape) != shape or not tensor.is_floating_point():
            raise CheckpointError(
                f"checkpoint {config.name}: the weights in {place} hold no linear.{kind} of {shape} numbers, "
                f"as its settings promise"
            )
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"checkpoint {config.name}: linear.{kind} in {place} holds values that are not finite"
            )
        tensors[f"head.dense.{kind}"] = tensor.float()
    return tensors


def _dense(config: CheckpointConfig, place: str, settings: Mapping[str, Any]) -> tuple[int, bool]:
    """Size of the outputs, and whether there is a bias."""
    inputs, size = settings.get("in_features"), settings.get("out_features")
    width = config.setting("hidden_size")
    if inputs != width or type(size) is not int or size < 1:
        raise CheckpointError(
            f"checkpoint {config.name}: the Dense module in {place} goes from {shown(inputs)} to {shown(size)} "
            f"numbers; {width} come in"
        )
    activation = str(settings.get("activation_function", "torch.nn.modules.linear.Identity"))
    if activation.rpartition(".")[2] != "Identity" or settings.get("use_residual"):
        what = "use_residual" if settings.get("use_residual") else f"the activation {shown(activation)}"
        raise CheckpointError(
            f"checkpoint {config.name}: the Dense module in {place} has {what}; for late interaction, packages know a "
            f"product alone"
        )
    return size, bool(settings.get("bias", True))


def _queries(name: str, model: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, usual in _LENGTHS.items():
        value = model.get(key) or usual
        if type(value) is not int or value < _SHORTEST:
            raise CheckpointError(f"checkpoint {name}: {key} = {shown(value)} in {MODEL_FILE}; it should be a length")
        values[key] = value
    for key, switch in _SWITCHES.items():
        value = model.get(key, switch)
        if type(value) is not bool:
            raise CheckpointError(f"checkpoint {name}: {key} = {shown(value)} in {MODEL_FILE}; it should be a truth")
        values[key] = value
    words = model.get("skiplist_words", list(string.punctuation))
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise CheckpointError(
            f"checkpoint {name}: skiplist_words = {shown(words)} in {MODEL_FILE}; they should be words"
        )
    return values | {"skiplist_words": words}


def _text(name: str, model: Mapping[str, Any], key: str, usual: str) -> str:
    value = model.get(key, usual)
    if not isinstance(value, str):
        raise CheckpointError(f"checkpoint {name}: {key} = {shown(value)} in {MODEL_FILE}; it should be a text")
    return value
