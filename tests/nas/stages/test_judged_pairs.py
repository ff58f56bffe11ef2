"""Judged pairs from the data to the packages, in a small run on the simulated host."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from ortnas.export.inference import model_outputs
from ortnas.export.metrics import METRICS, all_scores
from ortnas.export.package.record import read_record
from ortnas.export.package.sample import read_sample
from ortnas.nas.run.configuration import ConfigurationError, check_configuration
from ortnas.nas.stages.commands import data as show_data
from ortnas.nas.stages.commands import deliver, train
from ortnas.nas.stages.resolution import score_resolution
from ortnas.nas.stages.scoring import make_scorer
from ortnas.nas.stages.train import losses_under
from tests.nas.stages.small_runs import open_run, train_run
from tests.networks import WORDS, write_bert

RETRIEVAL = ["recall_at_1", "mrr_at_10", "ndcg_at_10"]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> Path:
    """A trained run with eighty pairs without scores: documents that share words with their queries."""
    folder = tmp_path_factory.mktemp("judged")
    write_bert(folder / "bert")
    rng = np.random.default_rng(7)
    asked = [[str(word) for word in rng.choice(WORDS, 8, replace=False)] for _ in range(80)]
    rows = [{"query": " ".join(words), "document": " ".join([*words[2:], "some", "more"])} for words in asked]
    (folder / "pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    train_run(folder, sentences, {"host": "simulated"}, {"subnets": 12, "cap_s": 0.01})
    document = yaml.safe_load((folder / "run.yaml").read_text())
    document["data"]["pairs"] = str(folder / "pairs.jsonl")
    (folder / "run.yaml").write_text(yaml.safe_dump(document))
    run = open_run(folder)
    train(run)
    run.close()
    return folder


def test_the_teachers_embeddings_and_figures_of_the_pairs_are_there(
    judged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = open_run(judged, search={"metric": "recall_at_1"})
    facts = show_data(run)
    assert facts["parts"]["search_pairs"]["rows"] > 64
    assert facts["metric"] == "recall_at_1"
    assert "pairs of pairs.jsonl: 32 queries among 80 documents for the search" in capsys.readouterr().err
    part = run.texts.part("search", run.texts.metric)
    assert part.teacher is not None
    assert part.teacher.shape == (len(part.encoded), 32)
    assert part.size == run.texts.size("search", "recall_at_1") == 32
    full = run.models.teacher_exporter.build(run.models.teacher.dimensions.full_subnet, "fp32")
    computed = all_scores("embedding", model_outputs(full, part.encoded, "embedding"), part)
    assert computed == pytest.approx(all_scores("embedding", list(part.teacher), part), abs=1e-6)
    assert list(computed) == RETRIEVAL
    assert computed["recall_at_1"] > 0.1
    # Texts are still compared with the teacher's where the metric is not of pairs.
    assert run.texts.part("search", "mean_cosine").judgements is None
    assert run.texts.text_metric == "similarity_spearman"
    run.close()


@pytest.mark.parametrize("metric", RETRIEVAL)
def test_candidates_are_scored_by_the_pairs(judged: Path, metric: str) -> None:
    run = open_run(judged, search={"metric": metric})
    scorer = make_scorer(run.configuration, run.console, run.folder, run.texts, run.target, run.models, screening=True)
    smallest = run.models.supernet.space.smallest
    outcome = next(scorer.outcomes([smallest], [None]))
    part = run.models.part("search", metric)
    model = run.models.exporter.sliced(smallest)
    assert outcome.score == METRICS[metric](model_outputs(model, part.encoded, "embedding"), part)
    resolution = score_resolution(run.configuration, run.folder, run.texts, run.models, scorer.context)
    assert (resolution.search.metric, resolution.search.texts, resolution.report.texts) == (metric, 32, 32)
    assert resolution.search.half_width > 0
    run.close()


@pytest.mark.slow
def test_packages_tell_the_scores_of_pairs_beside_those_of_texts(judged: Path, tmp_path: Path) -> None:
    run = open_run(judged, search={"metric": "mrr_at_10"})
    key = run.models.supernet.space.smallest.key
    done = deliver(run, [key], tmp_path / "packages")
    for row in done["rows"]:
        assert list(row["scores"]) == ["similarity_spearman", "mean_cosine", *RETRIEVAL]
        assert set(row["intervals"]) == {"similarity_spearman", *RETRIEVAL}
    assert done["metric"] == "mrr_at_10"
    folder = tmp_path / "packages" / f"int8-{key}"
    record = read_record(folder)
    assert (record.metric, record.judged) == ("mrr_at_10", "32 queries among 80 documents")
    card = (folder / "README.md").read_text()
    assert "report part (32 texts and 32 queries among 80 documents, not used for any choice)" in card
    # A few texts of a collection judge nothing: the sample is compared with the teacher's embeddings.
    sample = read_sample(folder)
    assert sample.metric == "similarity_spearman"
    assert len(sample.examples) == 32
    run.close()


def test_a_metric_that_the_pairs_do_not_serve_is_refused(judged: Path, tmp_path: Path) -> None:
    document = yaml.safe_load((judged / "run.yaml").read_text()) | {"folder": str(tmp_path / "run")}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(document))
    for change, message in (
        ({"search": {"metric": "spearman"}}, "'spearman': the pairs have no scores, and serve recall_at_1, mrr_at_10"),
        ({"search": {"metric": "accuracy"}}, "'accuracy' does not fit head 'embedding'; similarity_spearman, .* do"),
        (
            {"search": {"metric": "recall_at_1"}, "data": {"pairs": "none"}},
            "'recall_at_1' needs judged pairs, and there are none: name data.pairs",
        ),
    ):
        run = open_run(tmp_path, **change)
        with pytest.raises(ConfigurationError, match=message):
            run.texts.metric  # noqa: B018
        run.close()


def test_pairs_are_for_vectors_and_sts_b_has_some() -> None:
    document = {"checkpoint": "bert", "head": "classification", "data": {"source": "reviews", "pairs": "pairs.tsv"}}
    with pytest.raises(
        ConfigurationError,
        match=r"data\.pairs judges the heads 'embedding' and 'late-interaction', not 'classification'",
    ):
        check_configuration(document, "test")
    task = {"checkpoint": "bert", "data": {"source": "STS-B", "task": "sts-b"}}
    assert check_configuration(task, "test").head == "regression"
    assert check_configuration(task | {"head": "embedding"}, "test").head == "embedding"
    with pytest.raises(ConfigurationError, match="head 'span' does not fit task 'sts-b', whose head is 'regression'"):
        check_configuration(task | {"head": "span"}, "test")


def test_pairs_are_learned_from_where_the_metric_is_of_pairs_or_the_losses_say_so(judged: Path) -> None:
    for changes, expected in (
        ({}, False),
        ({"search": {"metric": "recall_at_1"}}, True),
        ({"search": {"metric": "recall_at_1"}, "training": {"losses": {"embedding": 1.0}}}, False),
        ({"training": {"losses": {"embedding": 1.0, "pairs": 1.0}}}, True),
    ):
        run = open_run(judged, **changes)
        assert run.configuration.learns_pairs == expected
        assert ("pairs" in losses_under(run.configuration, None)) == expected
        run.close()


def test_a_loss_of_pairs_wants_some_to_learn_from(judged: Path) -> None:
    run = open_run(judged, training={"losses": {"pairs": 1.0, "embedding": 1.0}})
    with pytest.raises(ConfigurationError, match="none are left beside those of the search and the report"):
        train(run)
    run.close()
