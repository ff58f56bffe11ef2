"""The folder that a user deploys."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ortnas.export.graph.heads import ALIAS
from ortnas.export.package.archive import write_archive
from ortnas.export.package.card import example_ids, model_card
from ortnas.export.package.record import MODEL_FILE, Facts, PackageError, PackageRecord, file_digest, write_record
from ortnas.export.package.sample import Sample, token_digest, write_sample
from ortnas.export.sentence_files import write_packaged, write_usage
from ortnas.export.weights import SupernetFolder
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.spelling import checkpoint_config
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.files import write_json
from ortnas.nas.text import load_tokenizer

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class PackageContent:
    """What goes into a package beside the tokenizer. What ``facts`` tells of the model, its card tells too."""

    name: str
    model: bytes
    supernet: SupernetFolder
    subnet: Subnet
    max_length: int
    sample: Sample
    facts: Facts


def write_package(folder: Path, content: PackageContent) -> None:
    """Writes the package beside its final place and moves it there whole; an older one is replaced.

    Raises PackageError where the model is not the one that was timed.
    """
    facts = _facts(content)
    staging = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        _fill(staging, content, facts)
    except BaseException:
        # A full disk, or an interruption: what was written would be in the way of everything else.
        shutil.rmtree(staging, ignore_errors=True)
        raise
    older = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(older, ignore_errors=True)
    if folder.exists():
        folder.rename(older)
    staging.rename(folder)
    shutil.rmtree(older, ignore_errors=True)


def _fill(staging: Path, content: PackageContent, facts: Facts) -> None:
    supernet, dimensions = content.supernet, content.supernet.dimensions
    makes_embeddings = HEADS[dimensions.head].makes_embeddings
    (staging / MODEL_FILE).write_bytes(packaged_model(content.model, dimensions.head))
    _copy_tokenizer(supernet.path, staging)
    shutil.copyfile(Path(__file__).with_name("predict.py"), staging / "predict.py")
    write_archive(staging)
    configuration = checkpoint_config(dimensions, content.subnet, supernet.labels, facts.activation)
    write_json(staging / "config.json", configuration)
    if makes_embeddings:
        write_packaged(staging, dimensions.embedding_size, content.max_length)
        write_usage(staging, facts.prompts, facts.default_prompt, facts.similarity)
    write_sample(staging, content.sample)
    tokenizer = load_tokenizer(staging)
    card = model_card(
        content.name,
        dimensions,
        content.subnet,
        supernet.labels,
        content.max_length,
        facts,
        example_ids(tokenizer, dimensions.head),
    )
    (staging / "README.md").write_text(card, encoding="utf-8")
    files = [path for path in sorted(staging.rglob("*")) if path.is_file()]
    record = PackageRecord(
        release=version("ortnas"),
        name=content.name,
        subnet=content.subnet,
        head=dimensions.head,
        labels=tuple(supernet.labels),
        max_length=content.max_length,
        token_digest=token_digest(tokenizer, content.sample, content.max_length),
        file_digests={path.relative_to(staging).as_posix(): file_digest(path) for path in files},
        **vars(facts),
    )
    write_record(staging, record)


def _facts(content: PackageContent) -> Facts:
    """With what the supernet knows. Raises PackageError where another model was timed."""
    facts, provenance = content.facts, content.supernet.provenance
    timed, packaged = facts.latency.model_digest, hashlib.sha256(content.model).hexdigest()
    if timed is not None and timed != packaged:
        raise PackageError(
            f"{content.name}: the model to package has the SHA-256 {packaged[:12]}..., the one that was timed "
            f"{timed[:12]}..."
        )
    return replace(
        facts,
        checkpoint=facts.checkpoint or provenance.get("checkpoint", "unknown"),
        provenance=facts.provenance or provenance,
        activation=facts.activation or provenance.get("activation"),
        prompts=facts.prompts or provenance.get("prompts") or {},
        default_prompt=facts.default_prompt or provenance.get("default_prompt"),
        similarity=facts.similarity or provenance.get("similarity"),
    )


def packaged_model(model: bytes, head: str) -> bytes:
    """As the file of a package holds it; one that was made by this is not changed again.

    An embedding has its output a second time, as ``last_hidden_state [batch, 1, embedding_size]``: optimum's feature
    extraction, and with it sentence-transformers, knows outputs by that name only.
    """
    if not HEADS[head].makes_embeddings:
        return model
    proto = onnx.ModelProto.FromString(model)
    if any(output.name == ALIAS for output in proto.graph.output):
        return model
    (embedding,) = proto.graph.output
    batch, size = embedding.type.tensor_type.shape.dim
    axis = f"{ALIAS}/axis"
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), axis))
    proto.graph.node.append(helper.make_node("Unsqueeze", [embedding.name, axis], [ALIAS], name=ALIAS))
    shape = (batch.dim_param or batch.dim_value, 1, size.dim_value)
    proto.graph.output.append(helper.make_tensor_value_info(ALIAS, TensorProto.FLOAT, shape))
    content: bytes = proto.SerializeToString()
    return content


def _copy_tokenizer(source: Path, staging: Path) -> None:
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, staging / name)
