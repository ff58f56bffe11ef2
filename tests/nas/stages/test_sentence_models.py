"""A checkpoint of sentence-transformers with modules, a prompt and vectors of any length, in a run and in quantize."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ortnas.export.package.record import read_record
from ortnas.export.weights import memory_map
from ortnas.nas.console import Console
from ortnas.nas.data import Asked
from ortnas.nas.failures import OrtnasError
from ortnas.nas.stages.commands import train
from ortnas.nas.stages.quantize import Order, quantize
from ortnas.nas.stages.quantize_texts import TextChoice
from tests.nas.stages.small_runs import open_run, train_run
from tests.nas.stages.test_quantize import brief
from tests.networks import write_checkpoint

__all__ = ["brief"]
PROMPT = "he was "
MODEL_FILE = "config_sentence_transformers.json"


def write_model(folder: Path) -> Path:
    """Pools by max, goes through a dense layer, and puts a prompt before every text."""
    write_checkpoint(folder, "bert")
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense"}
    listing = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(listing))
    settings = {"1_Pooling": {"pooling_mode": "max"}, "2_Dense": {"in_features": 32, "out_features": 12}}
    for path, document in settings.items():
        (folder / path).mkdir()
        (folder / path / "config.json").write_text(json.dumps(document))
    generator = torch.Generator().manual_seed(0)
    state = {"linear.weight": 0.2 * torch.randn(12, 32, generator=generator), "linear.bias": torch.ones(12)}
    save_file(state, folder / "2_Dense" / "model.safetensors")
    usage = {"prompts": {"query": PROMPT}, "default_prompt_name": "query", "similarity_fn_name": "dot"}
    (folder / MODEL_FILE).write_text(json.dumps(usage))
    return folder


@pytest.mark.slow
def test_a_run_teaches_vectors_of_the_texts_behind_the_default_prompt(tmp_path: Path, sentences: list[str]) -> None:
    write_model(tmp_path / "bert")
    train_run(tmp_path, sentences, {}, {})
    run = open_run(tmp_path)
    dimensions = run.models.supernet.dimensions
    assert (dimensions.embedding_size, dimensions.makes_unit_vectors) == (12, False)
    part = run.texts.part("report")
    assert all(example.text.startswith(PROMPT) for example in part.examples)
    teacher = memory_map(tmp_path / "run" / "teacher" / "outputs.safetensors")["report"]
    assert teacher.shape == (32, 12)
    assert np.linalg.norm(teacher, axis=1).min() > 1.1
    assert run.models.supernet.provenance["prompts"] == {"query": PROMPT}
    run.close()
    run = open_run(tmp_path, training={"steps": 6})
    train(run)
    losses = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert losses
    run.close()
    run = open_run(tmp_path, pooling="mean")
    with pytest.raises(OrtnasError, match="pooling = 'mean' as configured"):
        train(run)
    run.close()


@pytest.mark.slow
def test_quantize_keeps_modules_and_prompts(tmp_path: Path, sentences: list[str], brief: None) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(sentences))
    order = Order(
        str(write_model(tmp_path / "model")),
        TextChoice(str(tmp_path / "texts.txt"), Asked(None), None),
        tmp_path / "package",
        sequence=16,
    )
    quantize(order, Console(to_stderr=True))
    record = read_record(tmp_path / "package")
    assert (record.prompts, record.default_prompt, record.similarity) == ({"query": PROMPT}, "query", "dot")
    sample = json.loads((tmp_path / "package" / "sample.json").read_text())
    assert all(example["text"].startswith(PROMPT) for example in sample["examples"])
