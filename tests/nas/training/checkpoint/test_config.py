"""Every value of config.json is checked, and a wrong one is named."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.reading import read_checkpoint
from tests.nas.training.checkpoint.test_reading import change_config
from tests.networks import write_checkpoint

FAMILY_KEYS = dict.fromkeys(("bert", "roberta", "electra", "mpnet", "modernbert", "deberta-v2"), "hidden_size") | {
    "distilbert": "dim"
}
# Values of another kind, and of the right kind beyond all sense.
ODD_VALUES: list[Any] = [None, True, "32", "", 0, -1, 1, 2, 7, 32.0, 128.5, 1e300, float("nan"), float("inf"), 2**70]
ODD_VALUES += [[], [32], {}, {"a": 1}, "é" * 3000, "gelu", "absolute"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 128.5}, r"hidden_size = 128\.5; it should be a positive whole number"),
        ({"num_attention_heads": 0}, "num_attention_heads = 0"),
        ({"vocab_size": "30522"}, "vocab_size = '30522'"),
        ({"num_attention_heads": 5}, "hidden_size = 32 is no multiple of num_attention_heads = 5"),
        ({"pad_token_id": 4000}, "pad_token_id = 4000, but vocab_size"),
        ({"pad_token_id": "0"}, "pad_token_id = '0'; it should be a token's id"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps = nan"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "weights are quantized"),
        ({"model_type": ["bert"]}, "model_type is"),
        ({"architectures": "BertModel"}, "architectures = 'BertModel'"),
        ({"hidden_act": None}, "hidden_act"),
    ],
)
def test_values_that_no_encoder_has_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = write_checkpoint(tmp_path, "bert")
    change_config(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(str(folder), "embedding")


CODE = "raise SystemExit('executed')\n"


@pytest.mark.parametrize("key", ["AutoConfig", "AutoModel", "AutoModelForMaskedLM"])
@pytest.mark.parametrize("model_type", ["bert", "own"])
def test_a_network_in_code_of_its_own_is_refused_and_not_executed(tmp_path: Path, key: str, model_type: str) -> None:
    folder = write_checkpoint(tmp_path, "bert")
    (folder / "own.py").write_text(CODE)
    change_config(folder, auto_map={key: "own.Own"}, model_type=model_type)
    message = rf"code of its own \({key} in auto_map .* nothing is executed" if model_type == "bert" else "'own'"
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(str(folder), "embedding")


def test_other_classes_of_its_own_do_not_matter(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "bert")
    (folder / "own.py").write_text(CODE)
    change_config(folder, auto_map={"AutoTokenizer": ["own.Own", None]})
    assert read_checkpoint(str(folder), "embedding").notes == ()
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoTokenizer": ["own.Own", None]}}))
    (note,) = read_checkpoint(str(folder), "embedding").notes
    assert "names a tokenizer in code of its own (auto_map), of which nothing is executed" in note
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="its tokenizer is code of its own"):
        read_checkpoint(str(folder), "embedding")


@pytest.mark.parametrize(
    "content", ["[]", "3", "{", "\ud800".encode("utf-8", "surrogatepass"), b"\xff\xfe{", "[" * 9000]
)
def test_a_file_that_is_no_object_gets_a_sentence(tmp_path: Path, content: str | bytes) -> None:
    folder = write_checkpoint(tmp_path, "bert")
    (folder / "config.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_checkpoint(str(folder), "embedding")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILY_KEYS)
def test_a_changed_configuration_is_read_or_refused_in_one_sentence(tmp_path: Path, family: str) -> None:
    """What is read is what was read before: no value but those of the labels and the like changes a network."""
    folder = write_checkpoint(tmp_path, family, "classification")
    labels = ("LABEL_0", "LABEL_1", "LABEL_2")
    original = json.loads((folder / "config.json").read_text())
    before = read_checkpoint(str(folder), "classification", labels)
    rng, refusals = random.Random(7), list[str]()
    for _ in range(40):
        document = dict(original)
        for key in rng.sample(sorted(original), rng.choice([1, 1, 2])):
            if rng.random() < 0.2:
                del document[key]
            else:
                document[key] = rng.choice(ODD_VALUES)
        (folder / "config.json").write_text(json.dumps(document))
        try:
            after = read_checkpoint(str(folder), "classification", labels)
        except CheckpointError as error:
            refusals.append(str(error))
            continue
        kept = [name for name in after.tensors if name.startswith("embeddings.")]
        assert all(
            (after.tensors[name] == before.tensors[name]).all() for name in kept if name != "embeddings.position"
        )
    assert len(refusals) > 5
    assert all("\n" not in sentence and len(sentence) < 1000 for sentence in refusals)
