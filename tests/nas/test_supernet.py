"""The supernet against transformers' own BERT, which shares no code with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from export.weights import read_supernet
from nas.checkpoint import read_checkpoint
from nas.failures import CheckpointError
from nas.layout import Dimensions
from nas.space import Layer, Subnet
from nas.supernet import Supernet, save_supernet
from tests.networks import make_space, random_feeds, write_bert


def as_batch(feeds: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in feeds.items()}


def hidden_states(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**batch).last_hidden_state


def encoded(supernet: Supernet, batch: dict[str, torch.Tensor], subnet: Subnet) -> torch.Tensor:
    with torch.no_grad():
        embedded = supernet.look_up(batch["input_ids"], batch["token_type_ids"])
        return supernet.encode(embedded, batch["attention_mask"], subnet)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_full_subnet_computes_what_the_checkpoint_computes(tmp_path: Path, activation: str) -> None:
    folder = write_bert(tmp_path, hidden_act=activation)
    checkpoint = read_checkpoint(str(folder), "embedding")
    supernet = Supernet(checkpoint.tensors, checkpoint.dimensions)
    batch = as_batch(random_feeds(checkpoint.dimensions))
    expected = hidden_states(transformers.BertModel.from_pretrained(folder).eval(), batch)
    found = encoded(supernet, batch, checkpoint.dimensions.full_subnet)
    mask = batch["attention_mask"].bool()
    torch.testing.assert_close(found[mask], expected[mask], atol=1e-5, rtol=0)
    mean = (expected * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    with torch.no_grad():
        embedding = supernet(batch, checkpoint.dimensions.full_subnet)
    torch.testing.assert_close(embedding, torch.nn.functional.normalize(mean, dim=-1), atol=1e-5, rtol=0)


def test_classifier_computes_what_the_checkpoint_computes(tmp_path: Path) -> None:
    folder = write_bert(tmp_path, num_labels=3)
    checkpoint = read_checkpoint(str(folder), "classification", ("no", "so", "yes"))
    assert checkpoint.head_is_trained
    batch = as_batch(random_feeds(checkpoint.dimensions))
    model = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        found = Supernet(checkpoint.tensors, checkpoint.dimensions)(batch, checkpoint.dimensions.full_subnet)
        torch.testing.assert_close(found, model(**batch).logits, atol=1e-5, rtol=0)


def test_trained_classifier_takes_the_order_of_the_labels(tmp_path: Path) -> None:
    names = {0: "yes", 1: "no"}
    folder = write_bert(tmp_path, num_labels=2, id2label=names, label2id={name: row for row, name in names.items()})
    plain = read_checkpoint(str(folder), "classification", ("no", "yes"))
    state = transformers.BertForSequenceClassification.from_pretrained(folder).state_dict()
    torch.testing.assert_close(plain.tensors["head.classifier.weight"], state["classifier.weight"][[1, 0]])
    with pytest.raises(CheckpointError, match="its labels are"):
        read_checkpoint(str(folder), "classification", ("left", "right"))


def test_subnet_equals_the_network_that_is_cut_out(bert_folder: Path) -> None:
    """A smaller BERT of transformers, filled with the slices by hand, computes the same."""
    checkpoint = read_checkpoint(str(bert_folder), "embedding")
    subnet = Subnet(16, (Layer(1, 2, 8, 40),))
    config = transformers.BertConfig.from_pretrained(bert_folder)
    config.update({"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 40})
    small = transformers.BertModel(config, add_pooling_layer=False).eval()
    full = transformers.BertModel.from_pretrained(bert_folder).state_dict()
    state = {}
    for name, tensor in small.state_dict().items():
        source = full[name.replace("layer.0.", "layer.1.")]
        # Heads are contiguous blocks of 8 rows here, so the first 16 rows are the first two heads.
        state[name] = source[tuple(slice(size) for size in tensor.shape)]
    small.load_state_dict(state)
    batch = as_batch(random_feeds(checkpoint.dimensions))
    mask = batch["attention_mask"].bool()
    found = encoded(Supernet(checkpoint.tensors, checkpoint.dimensions), batch, subnet)
    torch.testing.assert_close(found[mask], hidden_states(small, batch)[mask], atol=1e-5, rtol=0)


def test_padding_does_not_change_the_output(bert_folder: Path) -> None:
    checkpoint = read_checkpoint(str(bert_folder), "embedding")
    supernet = Supernet(checkpoint.tensors, checkpoint.dimensions)
    feeds = random_feeds(checkpoint.dimensions, batch=1, sequence=6)
    padded = {name: np.pad(array, ((0, 0), (0, 5))) for name, array in feeds.items()}
    subnet = make_space(num_layers=2, depth=(2,)).smallest
    with torch.no_grad():
        torch.testing.assert_close(
            supernet(as_batch(feeds), subnet), supernet(as_batch(padded), subnet), atol=1e-6, rtol=0
        )


def test_saved_and_loaded_supernet_is_the_same(tmp_path: Path, bert_folder: Path) -> None:
    checkpoint = read_checkpoint(str(bert_folder), "embedding")
    supernet = Supernet(checkpoint.tensors, checkpoint.dimensions)
    save_supernet(tmp_path, supernet, make_space(num_layers=2, depth=(1, 2)), (), checkpoint.tokenizer, {})
    for name, array in read_supernet(tmp_path).tensors.items():
        np.testing.assert_array_equal(array, supernet.tensors[name].detach().numpy())


def test_wrong_shapes_are_refused(bert_folder: Path) -> None:
    checkpoint = read_checkpoint(str(bert_folder), "embedding")
    wrong = Dimensions(**{**vars(checkpoint.dimensions), "ffn_size": 63})
    with pytest.raises(ValueError, match="has shape"):
        Supernet(checkpoint.tensors, wrong)


def without_tokenizer(folder: Path) -> None:
    for path in write_bert(folder).iterdir():
        if "vocab" in path.name or "token" in path.name:
            path.unlink()


UNUSABLE = {
    "missing": (lambda folder: None, "no such folder"),
    "empty": (lambda folder: folder.mkdir(), "holds no config.json"),
    "roberta": (lambda folder: transformers.RobertaConfig().save_pretrained(folder), "model_type is 'roberta'"),
    "broken config": (lambda folder: (write_bert(folder) / "config.json").write_text("{"), "not JSON"),
    "broken weights": (
        lambda folder: (write_bert(folder) / "model.safetensors").write_bytes(b"\0" * 99),
        "weights cannot be read",
    ),
    "other tokenizer": (lambda folder: write_bert(folder, vocab_size=100), "belongs to another model"),
    "no tokenizer": (without_tokenizer, "tokenizer"),
    "activation": (lambda folder: write_bert(folder, hidden_act="silu"), "activation 'silu'"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_checkpoints_get_a_sentence(tmp_path: Path, case: str) -> None:
    prepare, message = UNUSABLE[case]
    prepare(tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(str(tmp_path / "checkpoint"), "embedding")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    folder = write_bert(tmp_path)
    model = transformers.BertModel.from_pretrained(folder)
    with torch.no_grad():
        model.encoder.layer[0].output.dense.weight[0, 0] = torch.nan
    model.save_pretrained(folder)
    with pytest.raises(CheckpointError, match="not finite"):
        read_checkpoint(str(folder), "embedding")
