"""Late interaction on a random two-layer network: from a folder of PyLate to a package that puts passages in order."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.nas.training.checkpoint.test_late_interaction import write_late_interaction
from tests.networks import WORDS

pytestmark = pytest.mark.slow


def test_a_searched_package_ranks_passages_by_maxsim(tmp_path: Path) -> None:
    rng = random.Random(0)
    # The last words of the vocabulary are no tokens of the folder's.
    sentences = [" ".join(rng.choices(WORDS[:-2], k=rng.randint(5, 12))) for _ in range(200)]
    (tmp_path / "texts.txt").write_text("\n".join(sentences))
    asked = [rng.sample(WORDS[:-2], 7) for _ in range(60)]
    pairs = [{"query": " ".join(words[:4]), "document": " ".join(reversed(words))} for words in asked]
    (tmp_path / "pairs.jsonl").write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs))
    document = {
        "checkpoint": str(write_late_interaction(tmp_path / "checkpoint")),
        "head": "late-interaction",
        "folder": str(tmp_path / "run"),
        "data": {
            "source": str(tmp_path / "texts.txt"),
            "calibration_size": 8,
            "search_size": 20,
            "report_size": 20,
            "max_length": 20,
            "pairs": str(tmp_path / "pairs.jsonl"),
        },
        "space": {
            "hidden_size": [16, 32],
            "depth": [1, 2],
            "num_heads": [2, 4],
            "head_size": [8],
            "ffn_size": [32, 64],
        },
        "training": {"steps": 6, "probe_every": 3, "probe_texts": 8, "batch_size": 8},
        "refinement": {"steps": 4},
        "target": {"sequence": 16, "host": "simulated"},
        "bench": {"subnets": 10},
        "search": {
            "budgets": ["1.2x"],
            "candidates": 3,
            "population": 2,
            "finalists": 2,
            "metric": "ndcg_at_10",
        },
    }
    configuration = tmp_path / "run.yaml"
    configuration.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "ortnas", "run", str(configuration), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    exported = json.loads(done.stdout)["export"]
    for row in exported["rows"]:
        own, judged = {"maxsim_spearman", "token_cosine"}, {"recall_at_1", "mrr_at_10", "ndcg_at_10"}
        assert row["scores"].keys() == own | judged
        assert row["intervals"].keys() == {"maxsim_spearman"} | judged

    (package,) = exported["packages"]
    verify = [sys.executable, "-m", "ortnas", "verify", package, "--json"]
    checks = json.loads(subprocess.run(verify, capture_output=True, text=True, check=False).stdout)
    states = {check["name"]: check["state"] for check in checks}
    assert (states["checksums"], states["load"], states["score"]) == ("pass", "pass", "pass")

    passages = ["it is the", "he was in a", "with them of"]
    ranking = [sys.executable, str(Path(package, "predict.py")), "is it", *passages]
    lines = subprocess.run(ranking, capture_output=True, text=True, check=True).stdout.splitlines()
    answers = [json.loads(line) for line in lines]
    assert sorted(answer["text"] for answer in answers) == sorted(passages)
    scores = [answer["output"] for answer in answers]
    assert scores == sorted(scores, reverse=True)
    # Twelve tokens of a query, each with a cosine.
    assert all(-12 <= score <= 12 for score in scores)
