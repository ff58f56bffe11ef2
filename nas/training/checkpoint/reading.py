"""Reading a Hugging Face checkpoint of the BERT family: canonical tensors, dimensions, labels and tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ortnas.nas.architecture.activations import ACTIVATIONS
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.ops import PoolingMode
from ortnas.nas.data.late_texts import LateTexts
from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.canonical import canonical_tensors, check_weights, take_own_decoder, unused_weights
from ortnas.nas.training.checkpoint.config import CheckpointConfig, read_config
from ortnas.nas.training.checkpoint.cross_encoder import CrossEncoder, read_cross_encoder
from ortnas.nas.training.checkpoint.folder import MODULES_FILE, encoder_folder, find_folder
from ortnas.nas.training.checkpoint.head_choice import choose_head
from ortnas.nas.training.checkpoint.late_interaction import (
    DENSE_WEIGHT,
    LateInteraction,
    check_bare,
    fit_tokenizer,
    read_dense,
    read_late_interaction,
)
from ortnas.nas.training.checkpoint.modules import SentenceModel, read_module_tensors, read_sentence_model
from ortnas.nas.training.checkpoint.sparse_encoder import SparseEncoder, read_sparse_encoder
from ortnas.nas.training.checkpoint.tokenizer import CheckpointTokenizer, read_tokenizer
from ortnas.nas.training.checkpoint.weights import read_weights

__all__ = [
    "Checkpoint",
    "TextSettings",
    "pick_labels",
    "read_checkpoint",
    "read_text_settings",
]

# Tokens of a text, where the checkpoint has room for them and says nothing else.
_MAX_LENGTH = 128


@dataclass(frozen=True)
class Checkpoint:
    """A pretrained network in canonical form. ``head_is_trained`` is False where the head starts at random.

    ``labels`` are the classifier's rows by name. ``order_is_open`` where nothing tells which row is which label: then
    the classifier has all rows of the checkpoint, in its order, and ``pick_labels`` takes those that were found out.
    ``activation`` is what a cross-encoder puts over its number; ``architectures`` are the classes of transformers that
    its configuration names; ``notes`` are sentences for the user. ``prompts``, ``default_prompt`` and ``similarity``
    are those of ``SentenceTexts``; ``late`` is how judged pairs of late interaction are read.
    """

    name: str
    dimensions: Dimensions
    tensors: dict[str, Tensor]
    labels: tuple[str, ...]
    head_is_trained: bool
    tokenizer: CheckpointTokenizer
    order_is_open: bool = False
    activation: str | None = None
    notes: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str | None = None
    late_interaction: Mapping[str, Any] | None = None
    late: LateTexts | None = None

    @property
    def prompt(self) -> str:
        """What is put before every text where nothing else is asked for."""
        return "" if self.default_prompt is None else self.prompts[self.default_prompt]

    @property
    def usage(self) -> dict[str, Any]:
        """What users of the network have to know beside its weights, as the provenance of a supernet folder."""
        return {
            "activation": self.activation,
            "prompts": dict(self.prompts),
            "default_prompt": self.default_prompt,
            "similarity": self.similarity,
        } | ({} if self.late_interaction is None else {"late_interaction": dict(self.late_interaction)})


@dataclass(frozen=True)
class TextSettings:
    """The tokenizer of a checkpoint, and where nothing else is asked for, how many tokens of a text are read and what
    is put before it; ``prompts`` are all that may be. ``late`` is how judged pairs of late interaction are read."""

    tokenizer: CheckpointTokenizer
    max_length: int
    prompt: str = ""
    prompts: tuple[str, ...] = ()
    late: LateTexts | None = None


def read_text_settings(name: str, head: str) -> TextSettings:
    """What texts need of a checkpoint, without its weights. Raises CheckpointError."""
    _quieten()
    folder = find_folder(name)
    inner = encoder_folder(name, folder)
    config = read_config(name, inner)
    library = _read_library(config, folder, head)
    tokenizer = read_tokenizer(config, inner, head, library is not None and library.texts.lower)
    if library is None:
        return TextSettings(tokenizer, min(_MAX_LENGTH, config.max_positions))
    late = None
    if isinstance(library, LateInteraction):
        fit_tokenizer(name, library, tokenizer)
        late = library.late_texts(tokenizer)
    texts = library.texts
    return TextSettings(tokenizer, texts.max_length, texts.prompt, tuple(texts.prompts.values()), late)


def _read_library(
    config: CheckpointConfig, folder: Path, head: str
) -> SentenceModel | CrossEncoder | SparseEncoder | LateInteraction | None:
    """What sentence-transformers does around such a network; None where the folder is not its."""
    if HEADS[head].makes_embeddings:
        return read_sentence_model(config, folder)
    if HEADS[head].weighs_vocabulary:
        return read_sparse_encoder(config, folder)
    if HEADS[head].makes_token_vectors:
        return read_late_interaction(config, folder)
    return read_cross_encoder(config, folder) if HEADS[head].gives_number else None


def read_checkpoint(
    name: str,
    head: str,
    labels: tuple[str, ...] = (),
    seed: int = 0,
    pooling: PoolingMode | None = None,
    label_names: Mapping[str, str] = {},
    new_head: bool = False,
) -> Checkpoint:
    """Reads a folder or hub name.

    ``labels`` are the task's label names for the classification heads, ``label_names`` says which of the checkpoint's
    they are where that cannot be told. A trained head of the wanted kind is used, unless ``new_head``; otherwise the
    head is initialised from ``seed``. ``pooling`` is how the embedding head makes one vector of a text; None takes
    what a sentence-transformers folder says, which nothing else may contradict, and the mean elsewhere. Raises
    CheckpointError.
    """
    _quieten()
    folder = find_folder(name, weights=True)
    inner = encoder_folder(name, folder)
    config = read_config(name, inner)
    library = _read_library(config, folder, head)
    sentence = library if isinstance(library, SentenceModel) else None
    tokenizer = read_tokenizer(config, inner, head, library is not None and library.texts.lower)
    notes = list(tokenizer.notes)
    if sentence is not None and pooling is not None and sentence.pooling != (pooling,):
        raise CheckpointError(
            f"checkpoint {name}: pooling = {pooling!r} as configured, but its {MODULES_FILE} pools by "
            f"{' and '.join(sentence.pooling)}; leave pooling out, or change the folder"
        )
    late = library if isinstance(library, LateInteraction) else None
    if late is not None:
        fit_tokenizer(name, late, tokenizer)
    elif HEADS[head].makes_token_vectors:
        notes.append(f"no {MODULES_FILE}: the vectors of tokens are their last hidden states, without a Dense layer")
    state = read_weights(name, inner, config.values.model_type)
    state = {config.family.respell(config.values, key): tensor for key, tensor in state.items()}
    if late is None and HEADS[head].makes_token_vectors:
        check_bare(name, state)
    dense = {} if late is None else {key: state.pop(key) for key in (DENSE_WEIGHT,) if key in state}
    dimensions = _dimensions(config, head)
    if sentence is not None:
        size = sentence.size or len(sentence.pooling) * dimensions.hidden_size
        dimensions = replace(dimensions, pooling=sentence.pooling, modules=sentence.modules, embedding_size=size)
    elif late is not None:
        dimensions = replace(dimensions, embedding_size=late.size)
    elif pooling is not None:
        dimensions = replace(dimensions, pooling=(pooling,))
    choice = choose_head(config, state, dimensions, labels, label_names, new_head)
    if HEADS[head].has_decoder and choice.is_trained:
        dimensions, state = take_own_decoder(config, dimensions, state)
    dimensions = replace(dimensions, num_labels=choice.size)
    check_weights(config, dimensions, state, choice.is_trained)
    tensors = canonical_tensors(config, state, dimensions, choice.is_trained, choice.rows, seed)
    if sentence is not None:
        tensors |= read_module_tensors(config, sentence)
    if late is not None:
        tensors |= read_dense(config, late, dense)
    usage = None if library is None else library.texts
    notes += [*choice.notes, *unused_weights(config, dimensions, state)]
    return Checkpoint(
        name,
        dimensions if choice.rows is None else replace(dimensions, num_labels=len(choice.rows)),
        tensors,
        choice.labels,
        choice.is_trained,
        tokenizer,
        choice.order_is_open,
        library.activation if isinstance(library, CrossEncoder) and choice.is_trained else None,
        tuple(notes),
        config.architectures,
        {} if usage is None else usage.prompts,
        None if usage is None else usage.default_prompt,
        None if usage is None else usage.similarity,
        None if late is None else late.queries,
        None if late is None else late.late_texts(tokenizer),
    )


def pick_labels(checkpoint: Checkpoint, rows: tuple[int, ...]) -> Checkpoint:
    """The checkpoint with these rows of its classifier, one for each label, in their order."""
    tensors = checkpoint.tensors | {
        name: checkpoint.tensors[name][list(rows)] for name in ("head.classifier.weight", "head.classifier.bias")
    }
    dimensions = replace(checkpoint.dimensions, num_labels=len(rows))
    return replace(checkpoint, tensors=tensors, dimensions=dimensions, order_is_open=False)


def _quieten() -> None:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def _dimensions(config: CheckpointConfig, head: str) -> Dimensions:
    """Sizes of the full network, but for the number of labels."""
    values, family = config.values, config.family
    hidden_size, num_heads = (config.setting(key) for key in ("hidden_size", "num_attention_heads"))
    table_size = values.embedding_size if family.factorises_tables else hidden_size
    activation = ACTIVATIONS[config.setting("hidden_act")]
    if HEADS[head].has_decoder and family.transform_activation not in (None, activation):
        raise CheckpointError(
            f"checkpoint {config.name}: a masked LM of {values.model_type} needs the activation "
            f"{family.transform_activation!r} in its encoder, found {activation!r}"
        )
    return Dimensions(
        **{"head_activation": family.head_activation} | config.own_dimensions(),
        vocab_size=values.vocab_size,
        max_positions=config.max_positions,
        token_types=config.setting("type_vocab_size"),
        hidden_size=hidden_size,
        num_layers=config.setting("num_hidden_layers"),
        num_heads=num_heads,
        head_size=hidden_size // num_heads,
        ffn_size=config.setting("intermediate_size"),
        layer_norm_epsilon=config.setting("layer_norm_eps"),
        activation=activation,
        head=head,
        embedding_size=hidden_size if HEADS[head].makes_vectors else 0,
        family=values.model_type,
        table_size=0 if table_size == hidden_size else table_size,
        padding_id=values.pad_token_id or 0,
    )
