"""The commands with heads that say something of every token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.heads import from_data_to_extraction, texts

pytestmark = pytest.mark.slow


def entities(folder: Path) -> dict[str, Any]:
    for name, n in (("train", 120), ("dev", 20)):
        sentences = [
            "\n".join(f"{word} {'B-W' if len(word) > 3 else 'O'}" for word in text.split()) for text in texts(n, n)
        ]
        (folder / f"{name}.conll").write_text("\n\n".join(sentences))
    return {"source": str(folder)}


def entities_and_texts(folder: Path) -> dict[str, Any]:
    (folder / "more.txt").write_text("\n".join(texts(80, 7)))
    return {"source": [entities(folder)["source"], str(folder / "more.txt")]}


def sentences(folder: Path) -> dict[str, Any]:
    (folder / "texts.txt").write_text("\n".join(texts(200)))
    return {"source": str(folder / "texts.txt")}


def books(folder: Path) -> dict[str, Any]:
    (folder / "books").mkdir()
    for number in range(4):
        (folder / "books" / f"{number}.txt").write_text("\n".join(texts(200, number)))
    return {"source": str(folder / "books")}


@pytest.mark.parametrize(
    ("family", "head", "make", "metric"),
    [
        ("roberta", "token-classification", entities, "entity_f1"),
        ("bert", "masked-lm", books, "masked_accuracy"),
        ("modernbert", "token-classification", entities_and_texts, "entity_f1"),
        ("electra", "sparse", sentences, "similarity_spearman"),
    ],
)
def test_every_head_goes_from_data_to_a_verified_package(
    tmp_path: Path, family: str, head: str, make: Any, metric: str
) -> None:
    from_data_to_extraction(tmp_path, family, head, make(tmp_path), metric)
