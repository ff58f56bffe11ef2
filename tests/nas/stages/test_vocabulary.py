"""A run whose word table loses the tokens that no text to learn from has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from ortnas.export.weights import memory_map
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.failures import OrtnasError
from ortnas.nas.stages.commands import train
from tests.nas.stages.small_runs import open_run, train_run
from tests.networks import write_bert, write_checkpoint


@pytest.mark.slow
def test_a_pruned_run_gives_the_vectors_of_a_whole_one(
    tmp_path: Path, sentences: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_bert(tmp_path / "bert", vocabulary=[f"{first}{second}ouse" for first in "hmlg" for second in "hmlgarx"])
    train_run(tmp_path, sentences, {}, {})
    run = open_run(tmp_path)
    whole, before = run.models.supernet.dimensions, memory_map(tmp_path / "run" / "teacher" / "outputs.safetensors")
    outputs = {name: np.array(values) for name, values in before.items()}
    run.close()
    run = open_run(tmp_path, vocabulary="prune")
    train(run)
    pruned = run.models.supernet
    assert pruned.dimensions.vocab_size < whole.vocab_size - 20
    assert pruned.provenance["vocabulary"] == "prune"
    said = f"vocabulary: {pruned.dimensions.vocab_size:,} of {whole.vocab_size:,} tokens are kept"
    assert said in capsys.readouterr().err
    tokenizer = Tokenizer.from_file(str(pruned.path / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == pruned.dimensions.vocab_size
    assert tokenizer.token_to_id("hmouse") is None
    after = memory_map(tmp_path / "run" / "teacher" / "outputs.safetensors")
    for name, values in outputs.items():
        np.testing.assert_allclose(after[name], values, atol=1e-5)
    run.close()
    run = open_run(tmp_path, vocabulary="prune")
    made = (tmp_path / "run" / "data" / "pruned.json").stat().st_mtime_ns
    train(run)
    assert (tmp_path / "run" / "data" / "pruned.json").stat().st_mtime_ns == made
    run.close()


@pytest.mark.slow
def test_a_tokenizer_of_merges_is_refused_before_anything_is_trained(tmp_path: Path, sentences: list[str]) -> None:
    write_bert(tmp_path / "bert")
    train_run(tmp_path, sentences, {}, {})
    write_checkpoint(tmp_path / "roberta", "roberta")
    run = open_run(tmp_path, vocabulary="prune", checkpoint=str(tmp_path / "roberta"))
    with pytest.raises(OrtnasError, match="is for WordPiece and Unigram tokenizers, and this is 'BPE'"):
        train(run)
    run.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compare": ["other"]}, "leave compare out"),
        *(({"head": name}, "has an output for every token") for name, head in HEADS.items() if head.has_decoder),
    ],
)
def test_what_needs_all_tokens_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    document = {"checkpoint": "x", "folder": "y", "head": "embedding", "data": {"source": "z"}}
    (tmp_path / "run.yaml").write_text(json.dumps(document))
    with pytest.raises(OrtnasError, match=message):
        open_run(tmp_path, vocabulary="prune", **changes)
