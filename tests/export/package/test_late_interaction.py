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
from ortnas.export.inference import split_rows
from ortnas.export.package.package import write_package
from ortnas.export.package.predict import Model
from ortnas.nas.data.late_texts import LateTexts
from ortnas.nas.text import Example
from ortnas.nas.training.checkpoint.reading import read_checkpoint, read_text_settings
from ortnas.nas.training.supernet import open_checkpoint
from tests.export.packages import make_content
from tests.nas.training.checkpoint.test_late_interaction import write_late_interaction, write_stanford
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


def stanford_reference(checkpoint: Path, text: str, is_query: bool) -> torch.Tensor:
    """As Stanford's ColBERT encodes: a dot before the text that the marker replaces, then padding that mask tokens do,
    and punctuation left out of documents."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    settings = {"padding": "max_length", "max_length": 12} if is_query else {"max_length": 20}
    encoded = tokenizer(f". {text}", truncation=True, return_tensors="pt", **settings)
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    ids[:, 1] = tokenizer.convert_tokens_to_ids("[unused0]" if is_query else "[unused1]")
    ids[ids == tokenizer.pad_token_id] = tokenizer.mask_token_id
    state = load_file(checkpoint / "model.safetensors")
    encoder = transformers.BertModel(transformers.BertConfig.from_pretrained(checkpoint), add_pooling_layer=False)
    inner = {key.removeprefix("bert."): tensor for key, tensor in state.items() if key.startswith("bert.")}
    encoder.load_state_dict({key: tensor for key, tensor in inner.items() if not key.startswith("pooler.")})
    with torch.no_grad():
        hidden = encoder.eval()(input_ids=ids, attention_mask=mask).last_hidden_state[0]
    vectors = F.normalize(hidden @ state["linear.weight"].T, dim=-1)
    skipped = set() if is_query else {tokenizer.convert_tokens_to_ids(word) for word in (".", "!")}
    return vectors[[int(token) not in skipped for token in ids[0]]]


def write_from(checkpoint: Path, folder: Path, sentences: list[str]) -> Model:
    """A float package of the checkpoint as it is."""
    content = make_content(folder / "random", "bert", "late-interaction", sentences)
    space = make_space(num_layers=2, depth=(1, 2))
    supernet = open_checkpoint(str(checkpoint), "late-interaction", folder / "supernet", space)
    subnet = supernet.dimensions.full_subnet
    feeds = [{name: np.ones((2, 6), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}]
    built = Exporter(supernet, content.facts.recipe, feeds).build(subnet, "fp32")
    facts = replace(content.facts, latency=replace(content.facts.latency, model_digest=None), precision="fp32")
    package = folder / "package"
    write_package(package, replace(content, model=built, supernet=supernet, subnet=subnet, max_length=20, facts=facts))
    assert json.loads((package / "ortnas.json").read_text())["default_prompt"] == "document"
    return Model(package, threads=1)


def read_judged(checkpoint: Path, model: Model, texts: list[str]) -> list[tuple[str, np.ndarray]]:
    """Texts, of which the first two are queries, and their vectors as judged pairs of a run have them."""
    settings = read_text_settings(str(checkpoint), "late-interaction")
    assert settings.late is not None
    late = LateTexts.from_json(json.loads(json.dumps(settings.late.to_json())))
    assert late == settings.late == read_checkpoint(str(checkpoint), "late-interaction").late
    examples = late.with_prompts([Example(text) for text in texts], {0, 1})
    encoded = late.encode(settings.tokenizer.backend, examples, {0, 1}, settings.max_length)
    rows: list[np.ndarray] = [np.empty(0)] * len(texts)
    for places, feeds in encoded.batches(3):
        outputs = model.session.run(None, {item.name: feeds[item.name] for item in model.session.get_inputs()})[0]
        for place, vectors in zip(places, split_rows("late-interaction", outputs, encoded, places), strict=True):
            rows[place] = vectors
    return list(zip(texts, rows, strict=True))


CASES = {
    "PyLate": (write_late_interaction, reference, ("[Q] ", "[D] "), {"the", "of"}),
    "Stanford": (write_stanford, stanford_reference, ("[unused0] ", "[unused1] "), {".", "!"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
def test_a_package_gives_the_vectors_and_scores_of_the_checkpoint(
    tmp_path: Path, sentences: list[str], kind: str
) -> None:
    write, encode, (query_prefix, document_prefix), skipped = CASES[kind]
    checkpoint = write(tmp_path / "checkpoint")
    model = write_from(checkpoint, tmp_path, sentences)
    documents = ["he was in the a of it.", "with them! of the", "is it " * 20]
    # The second one is longer than a query may be.
    for query in ("it is the!", "it is the " * 6):
        expected_query = encode(checkpoint, query, True)
        assert len(expected_query) == 12
        ours = model.vectors(query_prefix + query)[1]
        torch.testing.assert_close(torch.from_numpy(ours), expected_query, atol=1e-4, rtol=0)
        scores = {}
        for text in documents:
            expected = encode(checkpoint, text, False)
            names, vectors = model.vectors(document_prefix + text)
            assert not skipped & set(names)
            torch.testing.assert_close(torch.from_numpy(vectors), expected, atol=1e-4, rtol=0)
            scores[text] = float((expected_query @ expected.T).amax(1).sum())
        ranked = model.maxsim(query, *documents)
        assert [text for text, _ in ranked] == sorted(scores, key=lambda text: -scores[text])
        np.testing.assert_allclose([score for _, score in ranked], sorted(scores.values(), reverse=True), atol=1e-3)
    judged = read_judged(checkpoint, model, ["it is the!", "it is the " * 6, *documents])
    for row, (text, vectors) in enumerate(judged):
        torch.testing.assert_close(torch.from_numpy(vectors), encode(checkpoint, text, row < 2), atol=1e-4, rtol=0)
    # Padding that the tokenizer puts behind a text has no say.
    alone = model.vectors(document_prefix + documents[0])[1]
    model.tokenizer.enable_padding(length=20, pad_id=0, pad_token="[PAD]")
    names, padded = model.vectors(document_prefix + documents[0])
    assert "[PAD]" not in names
    np.testing.assert_allclose(padded, alone, atol=1e-5)
