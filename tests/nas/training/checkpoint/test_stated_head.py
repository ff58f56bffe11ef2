"""Which heads a checkpoint says that it has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ortnas.nas.training.checkpoint.stated_head import stated_heads
from tests.networks import write_checkpoint


@pytest.mark.parametrize(
    ("head", "stated"),
    [
        ("embedding", ()),
        ("masked-lm", ()),
        ("classification", ("classification",)),
        ("multi-label", ("multi-label",)),
        ("regression", ("regression", "reranking")),
        ("token-classification", ("token-classification",)),
        ("span", ("span",)),
    ],
)
def test_heads_follow_from_the_class_and_the_number_of_labels(
    tmp_path: Path, head: str, stated: tuple[str, ...]
) -> None:
    assert stated_heads(str(write_checkpoint(tmp_path, "bert", head))) == stated


def test_a_folder_of_sentence_transformers_makes_embeddings(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "bert", "masked-lm")
    (folder / "modules.json").write_text(json.dumps([]))
    assert stated_heads(str(folder)) == ("embedding",)
    pooling = {"type": "sentence_transformers.sparse_encoder.models.SpladePooling", "path": "1_SpladePooling"}
    (folder / "modules.json").write_text(json.dumps([pooling]))
    assert stated_heads(str(folder)) == ("sparse",)
