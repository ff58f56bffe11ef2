"""Checkpoints that the user named in ``compare``: read as they are, and set beside the winners."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ortnas.export.weights import SupernetFolder, read_supernet
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.console import Console
from ortnas.nas.failures import CheckpointError
from ortnas.nas.files import digest
from ortnas.nas.run.checkpoints import checkpoint_folder, content_digest
from ortnas.nas.run.configuration import Configuration, ConfigurationError
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.run.plan import usual_steps
from ortnas.nas.run.texts import Texts
from ortnas.nas.stages.comparison import Entry
from ortnas.nas.stages.courses import pairs_to_learn, recorded
from ortnas.nas.stages.ready_made_training import train_ready_made
from ortnas.nas.text import encode, load_tokenizer
from ortnas.nas.wording import shown
from ortnas.search.comparison import RIVALS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from ortnas.nas.training.checkpoint.reading import Checkpoint


@dataclass(frozen=True)
class ReadyMade:
    """``name`` is as configured, ``title`` what is said of it. ``network`` is the checkpoint as it is, in the run
    folder."""

    name: str
    title: str
    network: SupernetFolder

    @property
    def head_is_trained(self) -> bool:
        """Whether it can be compared as it is: a head for this run's labels came with it, or none is needed."""
        return bool(self.network.provenance["head_is_trained"])


def open_ready_made(
    configuration: Configuration, console: Console, run_folder: RunFolder, texts: Texts
) -> list[ReadyMade]:
    """Every checkpoint of ``compare``, read once.

    Raises ConfigurationError for one of another tokenizer or another head, and for one that cannot be read.
    """
    ready_made = []
    for name, title in zip(configuration.compare, _titles(configuration.compare), strict=True):
        place = checkpoint_folder(name, "compare")
        inputs = digest(
            content_digest(place),
            configuration.head,
            texts.data.digest,
            texts.checkpoint_digest,
            _longest(configuration, texts),
            configuration.seed,
        )
        folder = run_folder.path / "ready-made" / inputs
        if recorded(folder, "inputs") != inputs:
            _save(configuration, console, texts, name, place, folder, inputs)
        ready_made.append(ReadyMade(name, title, read_supernet(folder)))
    return ready_made


def ready_made_entries(
    configuration: Configuration,
    console: Console,
    run_folder: RunFolder,
    texts: Texts,
    run_models: Models,
    trained_steps: int,
) -> list[Entry]:
    """The checkpoints of ``compare``, quantized by the run's recipe and calibration texts, as entries of a comparison.

    One without a head for the run's labels is fine-tuned first, and any where winners learn from pairs, for
    ``trained_steps``, which are those of the winner that was trained longest, or where that is 0, for as many as the
    run's own checkpoint would be. Raises what
    ``open_ready_made`` raises, and TrainingError.
    """
    precision = configuration.precision
    steps = trained_steps or usual_steps(configuration).teacher
    entries = []
    for item in open_ready_made(configuration, console, run_folder, texts):
        network = item.network
        if not item.head_is_trained or pairs_to_learn(configuration, run_models.data) is not None:
            network = train_ready_made(configuration, console, run_folder, texts, run_models, network, steps)
        exporter = run_models.exporter_of(network)
        subnet = network.dimensions.full_subnet
        name = f"{RIVALS['ready_made']} {item.title}, {precision.upper()}"
        entries.append(Entry(name, exporter, subnet, precision, kind="ready_made"))
    return entries


def _titles(names: tuple[str, ...]) -> list[str]:
    """The last part of each name; the whole of it where several end alike."""
    ends = [name.rstrip("/\\").replace("\\", "/").rpartition("/")[2] for name in names]
    return [end if ends.count(end) == 1 else name for end, name in zip(ends, names, strict=True)]


def _longest(configuration: Configuration, texts: Texts) -> int:
    """How many positions scoring and timing need."""
    return max(texts.max_length, *(request.sequence for request in configuration.target.requests))


def _save(
    configuration: Configuration, console: Console, texts: Texts, name: str, place: str, folder: Path, inputs: str
) -> None:
    from ortnas.nas.architecture.presets import preset
    from ortnas.nas.training.supernet import Supernet, save_supernet

    checkpoint = _read(configuration, console, texts, name, place)
    provenance = {
        "checkpoint": name,
        **checkpoint.usage,
        "head_is_trained": checkpoint.head_is_trained,
        "inputs": inputs,
    }
    network = Supernet(checkpoint.tensors, checkpoint.dimensions)
    space = preset("default", checkpoint.dimensions)
    save_supernet(folder, network, space, checkpoint.labels, texts.tokenizer_folder, provenance)


def _read(configuration: Configuration, console: Console, texts: Texts, name: str, place: str) -> Checkpoint:
    from ortnas.nas.stages.label_order import settle_order
    from ortnas.nas.training.checkpoint.reading import read_checkpoint

    data, head = texts.data, configuration.head
    try:
        checkpoint = read_checkpoint(place, head, data.labels, configuration.seed)
        if checkpoint.order_is_open:
            checkpoint, sentence = settle_order(checkpoint, data)
            console.say(f"compare: {name}: {sentence}")
    except CheckpointError as error:
        raise ConfigurationError(f"compare: {error}") from error
    _check_head(checkpoint, name, head, data.labels)
    _check_tokenizer(checkpoint.tokenizer.backend, name, texts)
    if checkpoint.prompt != texts.prompt:
        raise ConfigurationError(
            f"compare: {name} puts {shown(checkpoint.prompt)} before every text, this run's checkpoint "
            f"{shown(texts.prompt)}, and models are compared on the same inputs"
        )
    if checkpoint.late != texts.late:
        raise ConfigurationError(
            f"compare: {name} reads queries and documents otherwise than this run's checkpoint (prompts, length, mask "
            f"tokens or skipped words), and models are compared on the same inputs"
        )
    longest = _longest(configuration, texts)
    if checkpoint.dimensions.max_positions < longest:
        raise ConfigurationError(
            f"compare: {name} has {checkpoint.dimensions.max_positions} positions, and this run's texts and timings "
            f"{longest} tokens; leave it out, or lower data.max_length and target.sequence"
        )
    return checkpoint


def _check_head(checkpoint: Checkpoint, name: str, head: str, labels: tuple[str, ...]) -> None:
    """Raises ConfigurationError for a checkpoint with a head that was trained for something else than the run's."""
    other = next((kind for kind in checkpoint.architectures if kind.endswith(_LABELLED)), None)
    if other is None or (checkpoint.head_is_trained and other.endswith(HEADS[head].class_suffix)):
        return
    wanted = f"head {head!r}" + (f" and the labels {', '.join(labels)}" if labels else "")
    raise ConfigurationError(
        f"compare: {name} is a {other} of other labels than this run, which has {wanted}; name a checkpoint for the "
        f"same, or an encoder without such a head"
    )


# What the classes of transformers end with whose heads are trained on labels; any encoder may have learnt from masks.
_LABELLED = tuple({row.class_suffix for row in HEADS.values() if row.has_labels and not row.fills_masks})


def _check_tokenizer(own: Tokenizer, name: str, texts: Texts) -> None:
    """Raises ConfigurationError where a rival's tokenizer gives other ids than the run's."""
    of_run = load_tokenizer(texts.tokenizer_folder)
    is_same = own.get_vocab(with_added_tokens=True) == of_run.get_vocab(with_added_tokens=True)
    examples = texts.data.examples("calibration")
    if is_same and examples:
        theirs, ours = (encode(tokenizer, examples, texts.max_length) for tokenizer in (own, of_run))
        is_same = (theirs.ids, theirs.type_ids) == (ours.ids, ours.type_ids)
    if not is_same:
        raise ConfigurationError(
            f"compare: {name} has another tokenizer than the run's checkpoint, and models are compared on the same "
            f"inputs; name a checkpoint of the same vocabulary"
        )
