"""A package of late interaction against a reference that is written out with transformers' own encoder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file

from ortnas.export.build import Exporter
from ortnas.export.package.package import write_package
from ortnas.export.package.predict import Model
from ortnas.nas.training.supernet import open_checkpoint
from tests.export.packages import make_content
from tests.nas.training.checkpoint.test_late_interaction import write_late_interaction
from tests.networks import make_space


def reference(checkpoint: Path, text: str, is_query: bool) -> torch.Tensor:
    """As PyLate encodes: the prefix's token behind the first, queries filled up with mask tokens that nothing attends
    to, words of the skip list left out of documents."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    ids = tokenizer(text, truncation=True, max_length=11 if is_query else 19)["input_ids"]
    ids.insert(1, tokenizer.convert_tokens_to_ids("[Q] " if is_query else "[D] "))
    filling = 12 - len(ids) if is_query else 0
    mask = torch.tensor([[1] * len(ids) + [0] * filling])
    ids += [tokenizer.mask_token_id] * filling
    encoder = transformers.BertModel.from_pretrained(checkpoint).eval()
    with torch.no_grad():
        hidden = encoder(input_ids=torch.tensor([ids]), attention_mask=mask).last_hidden_state[0]
    vectors = F.normalize(hidden @ load_file(checkpoint / "1_Dense" / "model.safetensors")["linear.weight"].T, dim=-1)
    skipped = set() if is_query else {tokenizer.convert_tokens_to_ids(word) for word in ("the", "of")}
    return vectors[[token not in skipped for token in ids]]


@pytest.mark.slow
def test_a_package_gives_the_vectors_and_scores_of_the_checkpoint(tmp_path: Path, sentences: list[str]) -> None:
    content = make_content(tmp_path / "random", "bert", "late-interaction", sentences)
    checkpoint = write_late_interaction(tmp_path / "checkpoint")
    supernet = open_checkpoint(
        str(checkpoint), "late-interaction", tmp_path / "supernet", make_space(num_layers=2, depth=(1, 2))
    )
    subnet = supernet.dimensions.full_subnet
    feeds = [{name: np.ones((2, 6), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}]
    built = Exporter(supernet, content.facts.recipe, feeds).build(subnet, "fp32")
    facts = replace(content.facts, latency=replace(content.facts.latency, model_digest=None), precision="fp32")
    package = tmp_path / "package"
    write_package(package, replace(content, model=built, supernet=supernet, subnet=subnet, max_length=20, facts=facts))
    record = json.loads((package / "ortnas.json").read_text())
    assert record["default_prompt"] == "document"
    model = Model(package, threads=1)
    query, documents = "it is the", ["he was in the a of it", "with them of the", "is it " * 20]
    ours = model.vectors("[Q] " + query)[1]
    torch.testing.assert_close(torch.from_numpy(ours), reference(checkpoint, query, True), atol=1e-4, rtol=0)
    scores = {}
    for text in documents:
        expected = reference(checkpoint, text, False)
        names, vectors = model.vectors("[D] " + text)
        assert not {"the", "of"} & set(names)
        torch.testing.assert_close(torch.from_numpy(vectors), expected, atol=1e-4, rtol=0)
        scores[text] = float((reference(checkpoint, query, True) @ expected.T).amax(1).sum())
    ranked = model.maxsim(query, *documents)
    assert [text for text, _ in ranked] == sorted(scores, key=lambda text: -scores[text])
    np.testing.assert_allclose([score for _, score in ranked], sorted(scores.values(), reverse=True), atol=1e-3)
