"""What is DeBERTa's own in a checkpoint: settings that choose another network, two masked-LM heads, its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.reading import read_checkpoint
from ortnas.nas.training.supernet import Supernet
from tests.nas.training.checkpoint.test_reading import change_config, compute, make_batch
from tests.networks import write_checkpoint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relative_attention": False}, "relative_attention = False; only True"),
        ({"share_att_key": None}, "share_att_key = None; only True"),
        ({"position_biased_input": True}, "position_biased_input = True; only False"),
        ({"type_vocab_size": 2}, "type_vocab_size = 2; only 0"),
        ({"conv_kernel_size": 3}, "conv_kernel_size = 3; only 0, as in all of DeBERTa-v3, is supported"),
        ({"pos_att_type": "c2p"}, "only c2p and p2c together"),
        ({"norm_rel_ebd": "none"}, "norm_rel_ebd = 'none'"),
        ({"embedding_size": 20}, "embedding_size = 20, and by the hidden size it would be 32"),
        ({"pooler_hidden_size": 16}, "pooler_hidden_size = 16"),
        ({"attention_head_size": 16}, "attention_head_size = 16, and by the hidden size it would be 8"),
        ({"position_buckets": -1}, "position_buckets = -1; there should be"),
        (
            {"position_buckets": 100},
            "position_buckets = 100; there should be from 4 to twice the farthest distance, 39",
        ),
        ({"pooler_hidden_act": "mish"}, "pooler_hidden_act = 'mish' is not supported"),
    ],
)
def test_other_networks_of_the_type_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = write_checkpoint(tmp_path, "deberta-v2")
    change_config(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(str(folder), "embedding")


def test_the_masked_lm_head_of_its_pretraining_is_read(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "deberta-v2", "masked-lm", legacy=False)
    assert "lm_predictions.lm_head.dense.weight" in load_file(folder / "model.safetensors")
    checkpoint = read_checkpoint(str(folder), "masked-lm")
    assert checkpoint.head_is_trained
    assert not checkpoint.notes
    batch = make_batch(checkpoint)
    mask = batch.pop("attention_mask")
    with torch.no_grad():
        model = transformers.DebertaV2ForMaskedLM.from_pretrained(folder).eval()
        expected = model(input_ids=batch["input_ids"], attention_mask=mask).logits
    computed = compute(checkpoint, {**batch, "attention_mask": mask})
    torch.testing.assert_close(computed[mask.bool()], expected[mask.bool()], atol=1e-5, rtol=0)


def test_a_head_that_transformers_would_not_use_is_none(tmp_path: Path) -> None:
    """As in the published checkpoints: ``legacy`` is not said, and the heads of the pretraining are there."""
    folder = write_checkpoint(tmp_path, "deberta-v2", "masked-lm", legacy=False)
    change_config(folder, legacy=True)
    state = load_file(folder / "model.safetensors")
    state["mask_predictions.dense.weight"] = torch.zeros(32, 32)
    save_file(state, folder / "model.safetensors")
    checkpoint = read_checkpoint(str(folder), "masked-lm")
    assert not checkpoint.head_is_trained
    assert not checkpoint.notes


def test_texts_longer_than_the_exact_buckets_are_as_in_transformers(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "deberta-v2", "token-classification", position_buckets=8)
    checkpoint = read_checkpoint(str(folder), "token-classification", ("a", "b", "c"))
    ids = torch.arange(5, 45)[None]
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    network = Supernet(checkpoint.tensors, checkpoint.dimensions)
    with torch.no_grad():
        model = transformers.DebertaV2ForTokenClassification.from_pretrained(folder).eval()
        expected = model(ids).logits
        computed = network(batch, checkpoint.dimensions.full_subnet)
    torch.testing.assert_close(computed, expected, atol=1e-5, rtol=0)


def test_its_unigram_tokenizer_is_the_checkpoints_own(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "deberta-v2", vocab_size=400)
    for path in (*folder.glob("*token*"), *folder.glob("*vocab*")):
        path.unlink()
    pieces = ["▁the", "▁of", "▁in", "s", "▁", *"abcdefghijklmnopqrstuvwxyz,-"]
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    vocabulary = [(token, 0.0) for token in special] + [(piece, -float(row)) for row, piece in enumerate(pieces, 1)]
    own = transformers.DebertaV2Tokenizer(vocabulary, unk_id=3)
    own.save_pretrained(folder)
    tokenizer = read_checkpoint(str(folder), "embedding").tokenizer
    assert tokenizer.input_names == ("input_ids", "attention_mask")
    for text in ("the of ins", "  the  of", "naïve, Of-a", ""):
        assert tokenizer.backend.encode(text).ids == own(text)["input_ids"]
    assert tokenizer.backend.encode("the", "of").tokens == ["[CLS]", "▁the", "[SEP]", "▁of", "[SEP]"]
