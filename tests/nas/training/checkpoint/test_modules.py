"""A sentence-transformers folder is reproduced as its files say, or what cannot be is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ortnas.nas.architecture.sentence_modules import NORMALIZE
from ortnas.nas.failures import CheckpointError
from ortnas.nas.text import Example, encode, with_prompt
from ortnas.nas.training.checkpoint.reading import read_checkpoint, read_text_settings
from ortnas.nas.training.supernet import Supernet
from tests.networks import write_checkpoint
from tests.sentence_models import CASES, write_sentence_model

PLAIN = ("Transformer", "Pooling", "Normalize")
TEXTS = ["he was in it", "The OF and", "they have this from one " * 30, "a"]
MODEL_FILE = "config_sentence_transformers.json"


def write_modules(folder: Path, kinds: tuple[str, ...] = PLAIN, **pooling: Any) -> Path:
    """As an early release of the library wrote it; modules of other kinds have no files."""
    write_checkpoint(folder, "bert")
    modules = []
    for number, kind in enumerate(kinds):
        path = "" if kind == "Transformer" else f"{number}_{kind}"
        kind = kind if "." in kind else f"sentence_transformers.models.{kind}"
        modules.append({"idx": number, "name": str(number), "path": path, "type": kind})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    settings = {"word_embedding_dimension": 32} | (pooling or {"pooling_mode_mean_tokens": True})
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    return folder


def add_module(folder: Path, kind: str, settings: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Path:
    """Appends a module with its files."""
    listing = json.loads((folder / "modules.json").read_text())
    path = folder / f"{len(listing)}_{kind}"
    listing.append({"path": path.name, "type": f"sentence_transformers.models.{kind}"})
    (folder / "modules.json").write_text(json.dumps(listing))
    path.mkdir()
    (path / "config.json").write_text(json.dumps(settings))
    if tensors:
        save_file(tensors, path / "model.safetensors")
    return path


def vectors_of(folder: Path, texts: list[str]) -> np.ndarray:
    """What the full network makes of texts, read as the folder says."""
    settings, checkpoint = read_text_settings(str(folder), "embedding"), read_checkpoint(str(folder), "embedding")
    examples = with_prompt([Example(text) for text in texts], settings.prompt)
    encoded = encode(settings.tokenizer.backend, examples, settings.max_length)
    batch = {name: torch.from_numpy(array) for name, array in encoded.feeds(range(len(texts))).items()}
    with torch.no_grad():
        vectors = Supernet(checkpoint.tensors, checkpoint.dimensions)(batch, checkpoint.dimensions.full_subnet)
    return np.asarray(vectors.numpy())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_vector_is_that_of_encode(tmp_path: Path, case: str) -> None:
    base = write_checkpoint(tmp_path / "base", "bert")
    library = write_sentence_model(case, base, tmp_path / "model")
    settings, checkpoint = (
        read(str(tmp_path / "model"), "embedding") for read in (read_text_settings, read_checkpoint)
    )
    expected = library.encode(TEXTS)
    np.testing.assert_allclose(vectors_of(tmp_path / "model", TEXTS), expected, atol=1e-5)
    assert settings.max_length == library.max_seq_length
    assert checkpoint.dimensions.embedding_size == expected.shape[1]
    assert checkpoint.dimensions.makes_unit_vectors == np.allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)
    assert (checkpoint.prompts, checkpoint.default_prompt) == (library.prompts, library.default_prompt_name)
    assert checkpoint.similarity == library.similarity_fn_name


@pytest.mark.slow
def test_early_releases_put_the_encoder_beside_its_modules(tmp_path: Path) -> None:
    folder = write_modules(tmp_path / "model")
    expected = vectors_of(folder, TEXTS)
    (folder / "0_BERT").mkdir()
    for path in list(folder.iterdir()):
        if path.is_file() and path.name != "modules.json":
            path.rename(folder / "0_BERT" / path.name)
    listing = json.loads((folder / "modules.json").read_text())
    listing[0]["path"] = "0_BERT"
    (folder / "modules.json").write_text(json.dumps(listing))
    (folder / "0_BERT" / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 7}))
    assert read_text_settings(str(folder), "embedding").max_length == 7
    (folder / "0_BERT" / "sentence_bert_config.json").unlink()
    np.testing.assert_array_equal(vectors_of(folder, TEXTS), expected)


@pytest.mark.parametrize(
    ("settings", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ("cls",)),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, ("mean",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
        ({"pooling_mode": "lasttoken"}, ("lasttoken",)),
        ({"pooling_mode": ["mean", "max"]}, ("mean", "max")),
        ({"embedding_dimension": 32}, ("mean",)),
    ],
)
def test_pooling_is_the_folders(tmp_path: Path, settings: dict[str, Any], pooling: tuple[str, ...]) -> None:
    folder = write_modules(tmp_path, **settings)
    assert read_checkpoint(str(folder), "embedding").dimensions.pooling == pooling
    own, other = pooling[0], "mean" if pooling == ("cls",) else "cls"
    if pooling == (own,):
        assert read_checkpoint(str(folder), "embedding", pooling=own).dimensions.pooling == pooling
    with pytest.raises(CheckpointError, match=f"pooling = '{other}' as configured.* pools by {' and '.join(pooling)}"):
        read_checkpoint(str(folder), "embedding", pooling=other)


def test_a_plain_checkpoint_is_pooled_as_configured(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "bert")
    assert read_checkpoint(str(folder), "embedding").dimensions.pooling == ("mean",)
    dimensions = read_checkpoint(str(folder), "embedding", pooling="max").dimensions
    assert (dimensions.pooling, dimensions.modules) == (("max",), (NORMALIZE,))


def test_the_length_is_the_folders_and_within_the_positions(tmp_path: Path) -> None:
    folder = write_modules(tmp_path)
    assert read_text_settings(str(folder), "embedding").max_length == 40
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24, "do_lower_case": False}))
    assert read_text_settings(str(folder), "embedding").max_length == 24
    assert read_text_settings(str(folder), "classification").max_length == 40
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 512}))
    assert read_text_settings(str(folder), "embedding").max_length == 40


def test_lower_case_is_part_of_the_tokenizer(tmp_path: Path) -> None:
    folder = write_modules(tmp_path)
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text())
    document["normalizer"]["lowercase"] = False
    path.write_text(json.dumps(document))
    cased = read_text_settings(str(folder), "embedding").tokenizer.backend.encode("THE").tokens
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
    lower = read_text_settings(str(folder), "embedding").tokenizer.backend.encode("THE").tokens
    assert (cased[1], lower[1]) == ("[UNK]", "the")


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (("Transformer", "Pooling", "CNN", "Normalize"), "has the module CNN, which packages do not reproduce"),
        (("Transformer", "WordWeights", "Pooling", "Normalize"), "has the module WordWeights"),
        (
            ("Transformer", "Normalize", "Pooling"),
            "lists Transformer, Normalize, Pooling; served are Transformer, Pooling",
        ),
        (("Transformer", "Pooling", "Pooling"), "lists Transformer, Pooling, Pooling"),
        (("Transformer",), "lists Transformer; served are"),
        (("Router",), "has the module Router"),
        (("Transformer", "Pooling", "own.Normalize"), "module own.Normalize, which is code of its own .* is executed"),
    ],
)
def test_modules_that_packages_lack_are_refused_by_name(tmp_path: Path, kinds: tuple[str, ...], message: str) -> None:
    folder = write_modules(tmp_path, kinds)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(str(folder), "embedding")
    assert not read_checkpoint(str(folder), "masked-lm").head_is_trained, "heads of other kinds have no modules"


DENSE = {"in_features": 32, "out_features": 4, "bias": False, "activation_function": "torch.nn.modules.activation.Tanh"}
WEIGHT = {"linear.weight": torch.ones(4, 32)}


@pytest.mark.parametrize(
    ("kind", "settings", "tensors", "message"),
    [
        ("Dense", {"in_features": 64}, WEIGHT, "goes from 64 to 4 numbers; 32 come in"),
        ("Dense", {"out_features": "4"}, WEIGHT, "goes from 32 to '4' numbers"),
        ("Dense", {"bias": True}, WEIGHT, r"hold no linear\.bias of \(4,\) numbers"),
        ("Dense", {}, {"linear.weight": torch.ones(5, 32)}, r"hold no linear\.weight of \(4, 32\) numbers"),
        ("Dense", {}, {"linear.weight": torch.full((4, 32), torch.nan)}, "holds values that are not finite"),
        ("Dense", {}, {}, "the folder holds neither"),
        ("Dense", {"use_residual": True}, WEIGHT, "use_residual"),
        ("Dense", {"module_input_name": "token_embeddings"}, WEIGHT, "is for 'token_embeddings'"),
        (
            "Dense",
            {"activation_function": "torch.nn.modules.activation.SiLU"},
            WEIGHT,
            "has the activation torch.*SiLU",
        ),
        ("Dense", {"activation_function": "own.Tanh"}, WEIGHT, "has the activation own.Tanh"),
        ("LayerNorm", {"dimension": 16}, {}, "is for 16 numbers; 32 come in"),
        ("Normalize", {"module_input_name": "token_embeddings"}, {}, "is for 'token_embeddings'"),
    ],
)
def test_modules_with_settings_that_packages_lack_are_refused(
    tmp_path: Path, kind: str, settings: dict[str, Any], tensors: dict[str, torch.Tensor], message: str
) -> None:
    folder = write_modules(tmp_path, ("Transformer", "Pooling"))
    add_module(folder, kind, (DENSE if kind == "Dense" else {}) | settings, tensors)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(str(folder), "embedding")


@pytest.mark.parametrize("spoilt", ["objects", "tensors"])
def test_a_pickle_of_a_module_is_read_for_its_tensors_alone(tmp_path: Path, spoilt: str) -> None:
    folder = write_modules(tmp_path, ("Transformer", "Pooling"))
    path = add_module(folder, "Dense", DENSE, {})
    torch.save(WEIGHT | ({"code": Path("x")} if spoilt == "objects" else {}), path / "pytorch_model.bin")
    if spoilt == "tensors":
        assert read_checkpoint(str(folder), "embedding").dimensions.embedding_size == 4
    else:
        with pytest.raises(CheckpointError, match="holds more than tensors"):
            read_checkpoint(str(folder), "embedding")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling_mode": "mode"}, "pools by 'mode'; served are cls, max, mean"),
        ({"pooling_mode": ["mean", 3]}, "pools by 3"),
        ({"word_embedding_dimension": 64}, "pools vectors of 64 numbers, the encoder's have 32"),
    ],
)
def test_poolings_that_do_not_exist_are_named(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(str(write_modules(tmp_path, **settings)), "embedding")


def test_prompts_are_read(tmp_path: Path) -> None:
    folder = write_modules(tmp_path)
    settings = folder / MODEL_FILE
    settings.write_text(json.dumps({"prompts": {"query": "query: ", "none": None}, "default_prompt_name": None}))
    checkpoint = read_checkpoint(str(folder), "embedding")
    assert (checkpoint.prompts, checkpoint.prompt) == ({"query": "query: ", "none": ""}, "")
    settings.write_text(json.dumps({"prompts": {"query": "query: "}, "default_prompt_name": "query"}))
    assert read_checkpoint(str(folder), "embedding").prompt == "query: "
    assert read_text_settings(str(folder), "embedding").prompt == "query: "


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompts": {"a": "b"}, "default_prompt_name": "c"}, "names the prompt 'c' .*, and has"),
        ({"prompts": ["a"]}, "they should be texts"),
        ({"prompts": {"a": 3}}, "they should be texts"),
        ({"truncate_dim": 0}, "truncate_dim = 0"),
        ({"truncate_dim": "8"}, "truncate_dim = '8'"),
    ],
)
def test_damaged_settings_get_a_sentence(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    folder = write_modules(tmp_path)
    (folder / MODEL_FILE).write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(str(folder), "embedding")


def test_prompts_that_pooling_leaves_out_are_refused(tmp_path: Path) -> None:
    folder = write_modules(tmp_path, pooling_mode="mean", include_prompt=False)
    assert read_checkpoint(str(folder), "embedding").dimensions.pooling == ("mean",)
    (folder / MODEL_FILE).write_text(json.dumps({"prompts": {"query": "query: "}}))
    with pytest.raises(CheckpointError, match="include_prompt: false"):
        read_checkpoint(str(folder), "embedding")


def test_vectors_are_cut_where_the_folder_cuts_them(tmp_path: Path) -> None:
    folder = write_modules(tmp_path)
    (folder / MODEL_FILE).write_text(json.dumps({"truncate_dim": 32}))
    assert read_checkpoint(str(folder), "embedding").dimensions.makes_unit_vectors
    (folder / MODEL_FILE).write_text(json.dumps({"truncate_dim": 8}))
    dimensions = read_checkpoint(str(folder), "embedding").dimensions
    assert (dimensions.embedding_size, dimensions.makes_unit_vectors) == (8, False)


def test_a_transformer_for_something_else_is_refused(tmp_path: Path) -> None:
    folder = write_modules(tmp_path)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"transformer_task": "fill-mask"}))
    with pytest.raises(CheckpointError, match=r"is for 'fill-mask' \(transformer_task\)"):
        read_checkpoint(str(folder), "embedding")


@pytest.mark.parametrize("content", ["{}", "[3]", "[{}]", "[", '[{"type": "Pooling"}]'])
def test_damaged_modules_get_a_sentence(tmp_path: Path, content: str) -> None:
    folder = write_modules(tmp_path)
    (folder / "modules.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"modules\.json"):
        read_checkpoint(str(folder), "embedding")
