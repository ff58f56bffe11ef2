"""``quantize_static`` in a process of its own: model and answers as here, and a sentence for what goes wrong."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest

from ortnas.export.graph.model import float_model
from ortnas.export.inference import model_outputs
from ortnas.export.int8.static_defaults import StaticDefaultsError, quantize_by_defaults
from ortnas.nas.stages.defaults_process import DefaultsProcess
from ortnas.nas.text import EncodedExamples
from tests.networks import make_dimensions, make_space, random_feeds, random_tensors

DIMENSIONS = make_dimensions("classification")
CALIBRATION = [random_feeds(DIMENSIONS, seed=seed) for seed in range(2)]
SCORED = EncodedExamples([[2, 5, 9, 4], [2, 7, 11]] * 3, [[0] * 4, [0] * 3] * 3)


def model() -> bytes:
    content: bytes = float_model(random_tensors(DIMENSIONS), DIMENSIONS, make_space().smallest).SerializeToString()
    return content


@pytest.mark.slow
def test_it_answers_what_is_answered_here() -> None:
    with DefaultsProcess() as process:
        process.begin(model(), CALIBRATION, SCORED, "classification", 4)
        quantized, outputs = process.answer()
    assert quantized == quantize_by_defaults(model(), CALIBRATION)
    np.testing.assert_array_equal(outputs, model_outputs(quantized, SCORED, "classification", 4))


@pytest.mark.slow
def test_what_goes_wrong_there_is_said_here() -> None:
    with DefaultsProcess() as process:
        process.begin(b"no model", CALIBRATION, SCORED, "classification", 4)
        with pytest.raises(StaticDefaultsError, match="DecodeError"):
            process.answer()


@pytest.mark.slow
def test_a_killed_process_costs_its_answer_alone() -> None:
    with DefaultsProcess() as process:
        (child,) = multiprocessing.active_children()
        child.kill()
        process.begin(model(), CALIBRATION, SCORED, "classification", 4)
        with pytest.raises(StaticDefaultsError, match="its process ended"):
            process.answer()


@pytest.mark.slow
def test_nothing_is_left_of_it() -> None:
    with DefaultsProcess():
        assert len(multiprocessing.active_children()) == 1
    assert not multiprocessing.active_children()
