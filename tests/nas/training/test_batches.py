from __future__ import annotations

import numpy as np
import pytest
import torch

from ortnas.nas.data.masking import Masking
from ortnas.nas.data.mixture import Mixture, interleave
from ortnas.nas.judgements import Judgements
from ortnas.nas.text import IGNORED, EncodedExamples
from ortnas.nas.training.batches import Batches, Schedule


def make_examples(n: int = 40, labelled: bool = True) -> EncodedExamples:
    rng = np.random.default_rng(0)
    ids = [rng.integers(5, 120, rng.integers(3, 12)).tolist() for _ in range(n)]
    return EncodedExamples(ids, [[0] * len(row) for row in ids], list(range(n)) if labelled else None)


def make_schedule(steps: int = 20, batch_size: int = 8) -> Schedule:
    return Schedule(steps, batch_size, 1e-3, seed=3)


def test_batches_are_a_function_of_seed_and_step() -> None:
    first, second = (Batches(make_examples(), make_schedule()) for _ in range(2))
    for step in (13, 2, 7, 13):
        torch.testing.assert_close(first[step][0]["input_ids"], second[step][0]["input_ids"])


def test_an_epoch_shows_every_text_once() -> None:
    batches = Batches(make_examples(), make_schedule())
    seen = torch.cat([batches[step][0]["labels"] for step in range(batches.per_epoch)])
    assert sorted(seen.tolist()) == list(range(40))


def test_batches_have_the_shares_of_a_mixture_and_texts_of_similar_length() -> None:
    origins = tuple(interleave([10, 390], [1, 1]))
    mixture = Mixture(("a", "b"), (1.0, 1.0), ("report", "report_b"), origins)
    first, second = (Batches(make_examples(400), make_schedule(), mixture=mixture) for _ in range(2))
    drawn = np.concatenate([first[step][0]["labels"].numpy() for step in range(100)])
    assert (np.array(origins)[drawn] == 0).sum() == 400
    assert len(set(drawn.tolist())) == 400
    padding = [1 - first[step][0]["attention_mask"].double().mean().item() for step in range(50)]
    assert np.mean(padding) < 0.1
    for step in (70, 3, 99):
        torch.testing.assert_close(first[step][0]["input_ids"], second[step][0]["input_ids"])


def test_batches_tell_which_texts_have_labels() -> None:
    examples = make_examples()
    part = EncodedExamples(examples.ids, examples.type_ids, [*range(10), *[IGNORED] * 30], labelled=10)
    batches = Batches(part, make_schedule())
    for step in range(batches.per_epoch):
        (batch,) = batches[step]
        assert batch["labelled"].tolist() == (batch["labels"] != IGNORED).tolist()
        assert batch["labelled"].tolist() == (batch["rows"] < 10).tolist()
    assert "labelled" not in Batches(part.only_labelled, make_schedule())[0][0]


@pytest.mark.parametrize(("world_size", "accumulation"), [(1, 4), (2, 1), (2, 2), (4, 2)])
def test_processes_and_parts_together_see_the_whole_batch(world_size: int, accumulation: int) -> None:
    whole = Batches(make_examples(), make_schedule())[3][0]["labels"]
    parts = [
        part["labels"]
        for rank in range(world_size)
        for part in Batches(make_examples(), make_schedule(), None, accumulation, rank, world_size)[3]
    ]
    assert len(parts) == world_size * accumulation
    assert sorted(torch.cat(parts).tolist()) == sorted(whole.tolist())


@pytest.mark.parametrize("are_scored", [False, True])
def test_every_second_batch_is_of_whole_pairs(are_scored: bool) -> None:
    pairs = Judgements(
        tuple(range(20)),
        (*range(20, 39), 20),
        tuple(number / 10 for number in range(20)),
        () if are_scored else tuple(range(20, 40)),
    )
    whole = Batches(make_examples(), make_schedule(), pairs=pairs)
    alone = Batches(make_examples(), make_schedule())
    seen = []
    for step in range(20):
        (batch,) = whole[step]
        assert batch["rows"].tolist() == whole.rows(step)
        if step % 2 == 0:
            assert batch["rows"].tolist() == alone.rows(step // 2)
            assert "grades" not in batch
            continue
        numbers, second = batch["rows"][::2].tolist(), batch["rows"][1::2].tolist()
        assert second == [pairs.second[number] for number in numbers]
        expected = [number / 19 if are_scored else np.nan for number in numbers]
        np.testing.assert_allclose(batch["grades"].numpy(), np.repeat(expected, 2), rtol=1e-6)
        seen += numbers
        parts = [
            part
            for rank in range(2)
            for part in Batches(make_examples(), make_schedule(), None, 2, rank, 2, pairs=pairs)[step]
        ]
        assert sorted(tuple(rows) for part in parts for rows in part["rows"].unflatten(0, (-1, 2)).tolist()) == sorted(
            zip(numbers, second, strict=True)
        )
    assert sorted(seen) == sorted(list(range(20)) * 2)


def test_rows_number_the_texts_of_every_part() -> None:
    for part in Batches(make_examples(), make_schedule(), None, accumulation=2, rank=1, world_size=2)[7]:
        assert torch.equal(part["rows"], part["labels"])


def test_masks_hide_a_share_of_the_tokens_and_tell_what_was_there() -> None:
    rng = np.random.default_rng(0)
    masking = Masking(4, (0, 1, 2, 3, 4), 120)
    ids = rng.integers(5, 120, (200, 50))
    ids[:, 0], ids[:, -10:] = 2, 0
    mask = (np.arange(50) < 40).astype(np.int64) * np.ones((200, 1), np.int64)
    feeds = {"input_ids": ids.copy(), "attention_mask": mask}
    labels = masking.apply(feeds, rng)
    chosen = labels != IGNORED
    assert not chosen[:, 0].any()
    assert not chosen[:, 40:].any()
    assert chosen[:, 1:40].mean() == pytest.approx(0.15, abs=0.015)
    assert (labels[chosen] == ids[chosen]).all()
    assert (feeds["input_ids"][~chosen] == ids[~chosen]).all()
    hidden = feeds["input_ids"][chosen]
    assert (hidden == 4).mean() == pytest.approx(0.8, abs=0.04)
    assert (hidden == ids[chosen]).mean() == pytest.approx(0.1, abs=0.04)


def test_even_a_tiny_batch_has_a_masked_token() -> None:
    masking = Masking(4, (0, 1, 2, 3, 4), 120)
    for seed in range(20):
        feeds = {"input_ids": np.array([[2, 50, 3]]), "attention_mask": np.array([[1, 1, 1]])}
        assert (masking.apply(feeds, np.random.default_rng(seed)) != IGNORED).tolist() == [[False, True, False]]


def test_a_resumed_run_masks_the_same_tokens() -> None:
    masking = Masking(4, (0, 1, 2, 3, 4), 120)
    first, second = (Batches(make_examples(labelled=False), make_schedule(), masking) for _ in range(2))
    first[0], first[1]
    torch.testing.assert_close(first[9][0], second[9][0])


def test_learning_rate_warms_up_and_falls() -> None:
    rates = [make_schedule(100).rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) == pytest.approx(9, abs=1)
    assert rates[99] < 2e-5


@pytest.mark.parametrize("world_size", [1, 2])
def test_long_texts_are_computed_in_more_parts(world_size: int) -> None:
    most_tokens = 60 // world_size
    batches = [
        Batches(make_examples(), make_schedule(), None, 1, rank, world_size, most_tokens=most_tokens)
        for rank in range(world_size)
    ]
    whole = Batches(make_examples(), make_schedule())
    counts = set()
    for step in range(50):
        parts = [part for own in batches for part in own[step]]
        assert all(len(own[step]) == own.part_count(step) for own in batches)
        assert len({own.part_count(step) for own in batches}) == 1
        # As near to equal as whole texts are.
        assert all(part["input_ids"].numel() <= most_tokens + part["input_ids"].shape[1] for part in parts)
        labels = torch.cat([part["labels"] for part in parts])
        assert sorted(labels.tolist()) == sorted(whole[step][0]["labels"].tolist())
        counts.add(batches[0].part_count(step))
    assert len(counts) > 1


@pytest.mark.parametrize(("accumulation", "world_size"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_texts_of_a_group_stay_together(accumulation: int, world_size: int) -> None:
    groups = [row // 4 for row in range(40)]
    parts = [
        part
        for rank in range(world_size)
        for part in Batches(make_examples(), make_schedule(), None, accumulation, rank, world_size, groups=groups)[3]
    ]
    # Two groups of four make a batch of eight.
    assert len(parts) == min(2, accumulation * world_size)
    rows = [part["rows"].tolist() for part in parts]
    for own in rows:
        assert all(own.count(row) == 1 for row in own)
        assert sorted(own) == sorted(4 * group + place for group in {row // 4 for row in own} for place in range(4))
    size = make_schedule().batch_size
    assert sum(map(len, rows)) == size


def test_of_a_group_larger_than_a_batch_some_texts_are_drawn_anew_each_epoch() -> None:
    size = make_schedule().batch_size
    batches = Batches(make_examples(), make_schedule(), groups=[0] * len(make_examples()))
    drawn = [set(batches.rows(epoch)) for epoch in range(3)]
    assert all(len(rows) == size for rows in drawn)
    assert drawn[0] != drawn[1] != drawn[2]


@pytest.mark.parametrize(
    "pairs", [None, Judgements(tuple(range(0, 400, 2)), tuple(range(1, 400, 2)), (1.0,) * 200, tuple(range(1, 400, 2)))]
)
def test_a_few_steps_have_as_many_tokens_as_all(pairs: Judgements | None) -> None:
    rng = np.random.default_rng(0)
    ids = [rng.integers(5, 120, int(length)).tolist() for length in np.exp(rng.normal(2.5, 1, 400)).clip(3, 100)]
    examples = EncodedExamples(ids, [[0] * len(row) for row in ids], None)
    batches = Batches(examples, make_schedule(), pairs=pairs)

    def tokens(chosen: Batches, steps: range) -> list[int]:
        return [chosen[step][0]["input_ids"].numel() for step in steps]

    steps = batches.steps_by_tokens(7, 200)
    few = tokens(batches.at(steps), range(7))
    assert few == sorted(few)
    assert few == [batches[step][0]["input_ids"].numel() for step in steps]
    assert np.mean(few) == pytest.approx(np.mean(tokens(batches, range(200))), rel=0.05)
    # The first seven say less.
    assert np.mean(tokens(batches, range(7))) != pytest.approx(np.mean(tokens(batches, range(200))), rel=0.05)
