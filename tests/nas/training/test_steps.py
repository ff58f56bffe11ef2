from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ortnas.export.inference import split_rows
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.judgements import Judgements
from ortnas.nas.text import EncodedExamples
from ortnas.nas.training.loss_names import LOSSES, choose_losses
from ortnas.nas.training.objective import Objective
from ortnas.nas.training.step_subnets import Sampler, multiply_adds
from ortnas.nas.training.steps import network_outputs, train_supernet
from tests.nas.training.courses import make_batches, make_course, make_examples, make_network
from tests.networks import make_space


def mean_loss(network, teacher, objective, head: str, subnet) -> float:
    """The objective on the first batch, as training computes it."""
    batch = make_batches(head, 1)[0][0]
    with torch.no_grad():
        target = objective.signals(
            teacher,
            teacher.look_up(batch["input_ids"], batch["token_type_ids"]),
            batch,
            teacher.dimensions.full_subnet,
            is_teacher=True,
        )
        embedded = network.look_up(batch["input_ids"], batch["token_type_ids"])
        return objective(objective.signals(network, embedded, batch, subnet), target, batch).item()


@pytest.mark.parametrize(
    "head", [pytest.param(head, marks=() if head == "classification" else pytest.mark.slow) for head in HEADS]
)
def test_training_lowers_the_loss_of_small_subnets(tmp_path: Path, head: str) -> None:
    network, teacher, space = make_network(head), make_network(head), make_space()
    objective = Objective(choose_losses(head, None), network.dimensions)
    before = mean_loss(network, teacher, objective, head, space.smallest)
    sampler = Sampler(space, "sandwich", 1, 60, 0, multiply_adds(space))
    train_supernet(network, teacher, objective, sampler, make_course(tmp_path, 60, head=head, learning_rate=3e-3))
    assert mean_loss(network, teacher, objective, head, space.smallest) < 0.9 * before


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"pairs"}))
def test_every_loss_alone_moves_the_weights_below_it(tmp_path: Path, name: str) -> None:
    head = "embedding" if name in ("embedding", "similarity", "tokens") else "token-classification"
    network, teacher, space = make_network(head, seed=1), make_network(head), make_space()
    objective = Objective(choose_losses(head, {name: 1.0}), network.dimensions)
    before = {key: tensor.detach().clone() for key, tensor in network.tensors.items()}
    train_supernet(network, teacher, objective, [[space.largest]] * 2, make_course(tmp_path, 2, head=head))
    assert not torch.equal(before["layers.0.query.weight"], network.tensors["layers.0.query.weight"])
    assert not torch.equal(before["embeddings.word"], network.tensors["embeddings.word"])


@pytest.mark.slow
@pytest.mark.parametrize("are_scored", [False, True])
def test_pairs_are_learned_beside_the_teacher(tmp_path: Path, are_scored: bool) -> None:
    network, teacher, space = make_network(), make_network(), make_space()
    first, second = tuple(range(0, 40, 2)), tuple(range(1, 40, 2))
    grades = tuple(float(number % 2) for number in range(20))
    pairs = Judgements(first, second, grades, () if are_scored else second)

    def order(texts: EncodedExamples) -> float:
        """How much nearer pairs are that belong together than others."""
        vectors = np.stack(network_outputs(network, texts, space.largest))
        cosines = vectors[::2] @ vectors[1::2].T
        own = np.diag(cosines)
        return float(own[1::2].mean() - own[::2].mean() if are_scored else own.mean() - cosines.mean())

    before = order(make_examples())
    objective = Objective({"embedding": 0.1, "pairs": 1.0}, network.dimensions)
    course = make_course(tmp_path, 60, learning_rate=3e-3, pairs=pairs)
    train_supernet(network, teacher, objective, [[space.largest]] * 60, course)
    assert order(make_examples()) > before + 0.1


@pytest.mark.slow
def test_in_place_distillation_needs_no_teacher(tmp_path: Path) -> None:
    head = "classification"
    network, space = make_network(head), make_space()
    objective = Objective({"soft_labels": 1.0}, network.dimensions)
    seen: list[list[float]] = []
    course = make_course(tmp_path, 40, head=head, learning_rate=3e-3)
    sampler = Sampler(space, "sandwich", 1, 40, 0, multiply_adds(space))
    listening = type(course)(
        course.accelerator,
        course.batches,
        course.states,
        lambda step, losses: seen.append([value for _, value in losses]),
    )
    train_supernet(network, None, objective, sampler, listening)
    largest = [losses[0] for losses in seen]
    assert np.mean(largest[-5:]) < 0.8 * np.mean(largest[:5]), "the largest learns from labels"
    assert seen[-1][1] != seen[-1][0]


def test_losses_that_a_head_cannot_have_are_refused() -> None:
    with pytest.raises(ValueError, match="no loss is called softlabels; there are labels"):
        choose_losses("classification", {"softlabels": 1})
    with pytest.raises(ValueError, match="similarity does not fit head classification"):
        choose_losses("classification", {"similarity": 1})
    with pytest.raises(ValueError, match="labels does not fit head embedding"):
        choose_losses("embedding", {"labels": 1})
    with pytest.raises(ValueError, match="weight 0"):
        choose_losses("embedding", {"tokens": 0})
    with pytest.raises(ValueError, match="pairs alone would teach nothing of texts without a pair"):
        choose_losses("embedding", {"pairs": 1, "tokens": 0})
    with pytest.raises(ValueError, match="pairs does not fit head sparse"):
        choose_losses("sparse", {"pairs": 1, "embedding": 1})
    assert choose_losses("span", None) == HEADS["span"].losses


@pytest.mark.parametrize("head", ["embedding", "classification", "token-classification", "span"])
def test_outputs_keep_the_order_of_the_examples(head: str) -> None:
    network, examples = make_network(head), make_examples(head, 9)
    full = network.dimensions.full_subnet
    together = network_outputs(network, examples, full, batch_size=4)
    for row in range(9):
        labels = None if examples.labels is None else [examples.labels[row]]
        alone = network_outputs(network, EncodedExamples([examples.ids[row]], [examples.type_ids[row]], labels), full)
        np.testing.assert_allclose(together[row], alone[0], atol=1e-5, rtol=1e-5)


def test_masked_outputs_are_the_same_from_all_logits_or_the_masked_ones() -> None:
    network = make_network("masked-lm")
    batch = make_batches("masked-lm", 1)[0][0]
    examples = EncodedExamples(batch["input_ids"].tolist(), batch["token_type_ids"].tolist(), batch["labels"].tolist())
    rows = list(range(len(examples)))
    full = network.dimensions.full_subnet
    with torch.no_grad():
        everything = network(batch | {"attention_mask": torch.ones_like(batch["attention_mask"])}, full).numpy()
    ours = split_rows("masked-lm", everything, examples, rows)
    masked = network_outputs(network, examples, full)
    for left, right in zip(ours, masked, strict=True):
        assert left.shape[1] == 2
        np.testing.assert_allclose(left, right, atol=1e-4)
