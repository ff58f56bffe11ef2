"""A checkpoint's ``config.json``, every value checked before anything is computed with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ortnas.nas.architecture.activations import ACTIVATIONS
from ortnas.nas.architecture.families import FAMILIES, Family
from ortnas.nas.architecture.families.refused import REFUSED
from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.folder import CONFIG_FILE, read_file
from ortnas.nas.wording import listed, said, shown

# No table or matrix of an encoder is larger than this along one axis.
_LARGEST_SIZE = 1 << 24
_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_GENERIC = "LABEL_"


@dataclass(frozen=True)
class CheckpointConfig:
    """``values`` is a transformers configuration, with its defaults; ``document`` is what the file itself says."""

    name: str
    values: Any
    document: Mapping[str, Any]

    @property
    def family(self) -> Family:
        return FAMILIES[self.values.model_type]

    def setting(self, key: str) -> Any:
        """The value of one of BERT's keys, however the family spells it."""
        return self.family.read_setting(self.values, key)

    def has_tensor(self, name: str) -> bool:
        """Whether a canonical tensor is none of the biases that this checkpoint lacks."""
        setting = self.family.bias_setting(name)
        return setting is None or bool(getattr(self.values, setting))

    def own_dimensions(self) -> dict[str, Any]:
        """Fields of ``Dimensions`` that the family alone has. Raises CheckpointError."""
        try:
            return self.family.read_own(self.values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"checkpoint {self.name}: {CONFIG_FILE}: {said(error)}") from error

    @property
    def architectures(self) -> tuple[str, ...]:
        """The classes of transformers that the file names."""
        return tuple(map(str, self.document.get("architectures") or ()))

    @property
    def first_position(self) -> int:
        """The row of the position table that the first token takes."""
        return self.values.pad_token_id + 1 if self.family.positions_follow_padding else 0

    @property
    def max_positions(self) -> int:
        return int(self.values.max_position_embeddings) - self.first_position

    def label_names(self) -> tuple[str, ...]:
        """The classifier's rows by name, empty where the file names none. Raises CheckpointError."""
        by_row, by_name = self.document.get("id2label"), self.document.get("label2id")
        for key, value in (("id2label", by_row), ("label2id", by_name)):
            if value is not None and not isinstance(value, dict):
                raise CheckpointError(f"checkpoint {self.name}: {key} is {shown(value)}; it should be an object")
        names = _named_rows(self.name, "id2label", [(row, name) for row, name in (by_row or {}).items()])
        others = _named_rows(self.name, "label2id", [(row, name) for name, row in (by_name or {}).items()])
        if others and (not names or is_generic(names)):
            return others
        if names and others and names != others and not is_generic(others):
            raise CheckpointError(
                f"checkpoint {self.name}: id2label says {shown(list(names))}, label2id {shown(list(others))}; "
                f"correct one of them in {CONFIG_FILE}"
            )
        return names


def is_generic(names: tuple[str, ...]) -> bool:
    """Whether the names are those that transformers makes up, LABEL_0 and so on."""
    return names == tuple(f"{_GENERIC}{row}" for row in range(len(names)))


def _named_rows(checkpoint: str, key: str, rows: list[tuple[Any, Any]]) -> tuple[str, ...]:
    """Names in the order of their rows."""
    try:
        numbers = [int(str(row)) for row, _ in rows]
    except ValueError:
        numbers = [-1]
    if sorted(numbers) != list(range(len(rows))) and rows:
        raise CheckpointError(
            f"checkpoint {checkpoint}: {key} numbers its labels {shown(sorted(str(row) for row, _ in rows))}; they "
            f"should be 0 to {len(rows) - 1}, each once"
        )
    names = tuple(str(name) for _, (_, name) in sorted(zip(numbers, rows, strict=True), key=lambda item: item[0]))
    if len(set(names)) < len(names):
        raise CheckpointError(f"checkpoint {checkpoint}: {key} has one name twice: {shown(list(names))}")
    return names


def read_config(name: str, folder: Path) -> CheckpointConfig:
    """Raises CheckpointError, naming the key, for a configuration that no supported encoder has."""
    import transformers

    document: dict[str, Any] = read_file(name, folder, CONFIG_FILE)
    model_type = document.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        reason = f": {REFUSED[model_type]}" if isinstance(model_type, str) and model_type in REFUSED else ""
        raise CheckpointError(
            f"checkpoint {name}: model_type is {shown(model_type)}{reason}; supported: {', '.join(FAMILIES)}"
        )
    _check_code(name, document, FAMILIES[model_type])
    if document.get("quantization_config"):
        raise CheckpointError(
            f"checkpoint {name}: its weights are quantized (quantization_config); give the checkpoint before that"
        )
    if document.get("position_embedding_type", "absolute") not in ("absolute", None):
        raise CheckpointError(f"checkpoint {name}: position_embedding_type must be 'absolute'")
    if document.get("is_decoder"):
        raise CheckpointError(f"checkpoint {name}: is_decoder is set; an encoder is needed")
    _check_document(name, FAMILIES[model_type], document)
    # The labels are read from the file itself, which may name fewer or more than the configuration allows.
    plain = {key: value for key, value in document.items() if key not in ("id2label", "label2id", "num_labels")}
    plain.pop("model_type")
    try:
        values = transformers.AutoConfig.for_model(model_type, **plain)
    except Exception as error:  # each release of the library has its own types for values that it refuses
        raise CheckpointError(f"checkpoint {name}: {CONFIG_FILE}: {said(error)}") from error
    config = CheckpointConfig(name, values, document)
    _check_values(config)
    return config


def _check_code(name: str, document: Mapping[str, Any], family: Family) -> None:
    """Raises CheckpointError for a network in code of the checkpoint's own, whatever type of ours it says it is."""
    classes = document["auto_map"] if isinstance(document.get("auto_map"), dict) else {}
    own = [str(key) for key in classes if str(key).startswith(("AutoConfig", "AutoModel"))]
    if own and not family.was_own_code:
        raise CheckpointError(
            f"checkpoint {name}: its network is code of its own ({listed(own)} in auto_map of "
            f"{CONFIG_FILE}), of which nothing is executed; if it does compute {shown(document['model_type'])} as "
            f"transformers does, take auto_map out of {CONFIG_FILE}"
        )


def _check_document(name: str, family: Family, document: Mapping[str, Any]) -> None:
    """Types of what the file says, by its own names of keys."""
    for key in (*_SIZES, "max_position_embeddings", "type_vocab_size", "embedding_size", "num_labels"):
        if key in family.fixed:
            continue
        own = family.settings.get(key, key)
        _check_size(name, own, document.get(own, 1))
    padding = document.get("pad_token_id", 0)
    if padding is not None and (type(padding) is not int or padding < 0):
        raise CheckpointError(f"checkpoint {name}: pad_token_id = {shown(padding)}; it should be a token's id")
    for key, lowest in (("layer_norm_eps", 0.0), ("initializer_range", 0.0)):
        value = document.get(key, 1.0)
        if type(value) not in (int, float) or not math.isfinite(value) or not lowest < value <= 1:
            raise CheckpointError(f"checkpoint {name}: {key} = {shown(value)}; it should be between 0 and 1")
    architectures = document.get("architectures")
    if architectures is not None and not (
        isinstance(architectures, list) and all(isinstance(item, str) for item in architectures)
    ):
        raise CheckpointError(f"checkpoint {name}: architectures = {shown(architectures)}; it should be names")


def _check_size(name: str, key: str, value: Any) -> None:
    if type(value) is not int or not 1 <= value <= _LARGEST_SIZE:
        raise CheckpointError(f"checkpoint {name}: {key} = {shown(value)}; it should be a positive whole number")


def _check_values(config: CheckpointConfig) -> None:
    """How the values, with their defaults, fit each other."""
    name, vocab_size, padding = config.name, config.values.vocab_size, config.values.pad_token_id
    activation = config.setting("hidden_act")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise CheckpointError(
            f"checkpoint {name}: activation {shown(activation)} (hidden_act); supported: {', '.join(ACTIVATIONS)}"
        )
    hidden_size, num_heads = config.setting("hidden_size"), config.setting("num_attention_heads")
    if hidden_size % num_heads:
        raise CheckpointError(
            f"checkpoint {name}: hidden_size = {hidden_size} is no multiple of num_attention_heads = {num_heads}"
        )
    for key, value in config.family.required.items():
        if (stated := getattr(config.values, key)) != value:
            raise CheckpointError(
                f"checkpoint {name}: {key} = {shown(stated)}; transformers computes every {config.values.model_type} "
                f"as if it were {value}, and nothing else is supported"
            )
    if padding is None and config.family.positions_follow_padding:
        raise CheckpointError(f"checkpoint {name}: pad_token_id is missing, and positions are counted from it")
    if padding is not None and padding >= vocab_size:
        raise CheckpointError(
            f"checkpoint {name}: pad_token_id = {padding}, but vocab_size = {vocab_size}: ids go up to {vocab_size - 1}"
        )
    if config.max_positions < 1:
        raise CheckpointError(
            f"checkpoint {name}: max_position_embeddings = {config.values.max_position_embeddings}; positions start at "
            f"{config.first_position}, so that none is left"
        )
