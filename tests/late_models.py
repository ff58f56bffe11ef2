"""Folders of PyLate, written by the library itself around a small random encoder.

As a script, for an interpreter that has the library and nothing of the project: a list of [case, base, folder, texts]
(JSON) writes the folders and prints what the models make of the texts.
"""

from __future__ import annotations

import json
import sys
from typing import Any

# What models are made with, beside sizes.
CASES: dict[str, dict[str, Any]] = {
    "skipped words": {"skiplist_words": ["the", "of"]},
    "attended mask tokens": {"attend_to_expansion_tokens": True, "bias": True},
    "queries as they are": {"do_query_expansion": False, "skiplist_words": []},
}


def write_late_model(case: str, base: str, folder: str) -> Any:
    """The model, which is in the folder too."""
    import torch
    from pylate import models

    torch.manual_seed(3)
    sizes = {"embedding_size": 24, "query_length": 12, "document_length": 20}
    model = models.ColBERT(base, device="cpu", **sizes, **CASES[case])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save(folder)
    return model


def outputs_of(model: Any, texts: list[str]) -> list[Any]:
    """Of the texts as queries and as documents the vectors of their tokens, and the scores of all pairs."""
    from pylate import scores

    queries, documents = (model.encode(texts, is_query=is_query) for is_query in (True, False))
    by_query = [[scores.colbert_scores([query], [document]).item() for document in documents] for query in queries]
    return [*([vectors.tolist() for vectors in part] for part in (queries, documents)), by_query]


if __name__ == "__main__":
    answers = []
    for case, base, folder, texts in json.loads(sys.argv[1]):
        answers.append(outputs_of(write_late_model(case, base, folder), texts))
    print(json.dumps(answers))
