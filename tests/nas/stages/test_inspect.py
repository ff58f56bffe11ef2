from __future__ import annotations

import json
from pathlib import Path

import pytest
from onnx import helper
from onnxruntime.quantization import quantize_dynamic
from typer.testing import CliRunner

from ortnas.export.build import Exporter
from ortnas.export.int8.recipes import recipe_named
from ortnas.export.weights import SupernetFolder
from ortnas.nas.cli import app
from tests.export.models import branches, convolutions, make_model, random_weight, two_gemms
from tests.networks import make_dimensions, make_space, random_feeds, random_tensors


def inspect(*arguments: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["inspect", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our INT8 model."""
    dimensions = make_dimensions("embedding")
    folder = SupernetFolder(None, dimensions, make_space(), random_tensors(dimensions), (), {}, "")  # type: ignore[arg-type]
    exporter = Exporter(folder, recipe_named("avx512_vnni"), [random_feeds(dimensions, batch=8, sequence=20)])
    path = tmp_path_factory.mktemp("package")
    (path / "model.onnx").write_bytes(exporter.build(make_space().largest, "int8"))
    return path


def test_our_package_shows_its_integer_products_and_what_stayed_float(package: Path) -> None:
    status, shown, _ = inspect(package, "--sequence", "16", "--batch", "2")
    assert status == 0
    assert "input_ids int64 [batch, sequence], run as [2, 16]" in shown
    assert "output  sentence_embedding float32 [batch, 32]" in shown
    # 3 layers x 32 hidden x (4 x 32 + 2 x 64) x 32 tokens
    assert "| integer, with a weight      |       18 |                  0.79 |" in shown
    lines = shown.splitlines()
    stayed = lines[lines.index("stayed float:") + 1]
    assert stayed.startswith("  head/projection (")
    assert "| QGemm " in shown
    assert "| int8 " in shown
    assert "time by operator" not in shown


@pytest.mark.slow
def test_json_holds_everything_and_the_page_goes_to_stderr(package: Path) -> None:
    status, shown, page = inspect(package / "model.onnx", "--sequence", "16", "--profile", "--json")
    assert status == 0
    assert "matrix products" in page
    assert "time by operator" in page
    document = json.loads(shown)
    integer = sum(item["multiply_adds"] for item in document["products"] if item["kernel"] == "integer")
    assert integer == make_space().largest.multiply_adds * 16
    assert document["weight_integer_share"] > 0.95
    assert document["workload"] == {"batch": 1, "sequence": 16}
    assert document["input_shapes"]["input_ids"] == [1, 16]
    assert {row["operator"] for row in document["profile"]["operators"]} == set(document["operators"])


def test_models_of_others_are_shown(tmp_path: Path) -> None:
    (tmp_path / "vision.onnx").write_bytes(convolutions())
    status, shown, _ = inspect(tmp_path / "vision.onnx", "--batch", "4")
    assert status == 0
    assert "pixels float32 [batch, 3, 8, 8], run as [4, 3, 8, 8]" in shown
    assert "classifier (MatMul, 0.01 M): neither its input nor its weight is quantized" in shown
    (tmp_path / "gemms.onnx").write_bytes(two_gemms())
    quantize_dynamic(tmp_path / "gemms.onnx", tmp_path / "dynamic.onnx")
    status, shown, _ = inspect(tmp_path / "dynamic.onnx", "--profile")
    assert status == 0
    assert "in integer kernels: 1.0000 of all multiply-adds, 1.0000 of those with a weight" in shown
    assert "stayed float" not in shown
    assert " ms in kernels of " in shown


def test_what_is_not_counted_is_named(tmp_path: Path) -> None:
    (tmp_path / "branches.onnx").write_bytes(branches())
    status, shown, _ = inspect(tmp_path / "branches.onnx")
    assert status == 0
    assert "not counted:\n  inner_" in shown
    assert "inner_b (MatMul): inside If choice" in shown


def test_a_long_list_of_float_products_ends_with_a_count(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", [f"x{layer}", "w"], [f"x{layer + 1}"], name=f"p{layer}") for layer in range(23)]
    (tmp_path / "deep.onnx").write_bytes(make_model(nodes, {"x0": ["batch", 4]}, ["x23"], [random_weight("w", 4, 4)]))
    status, shown, _ = inspect(tmp_path / "deep.onnx")
    assert status == 0
    assert "  p19 (" in shown
    assert "  p20 (" not in shown
    assert "\n  and 3 more\n" in shown


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, (), "no such file; give an ONNX file or a folder that holds model.onnx"),
        (b"", (), "not an ONNX model"),
        (b"not a model at all", (), "not an ONNX model"),
        (two_gemms()[:500], (), "cut short or damaged"),
        (make_model([helper.make_node("Gone", ["x"], ["y"])], {"x": [1]}, ["y"]), (), "refuses it"),
        (two_gemms(), ("--provider", "NoneExecutionProvider"), "NoneExecutionProvider is not available here"),
        (make_model([helper.make_node("Relu", ["x"], ["y"])], {"x": None}, ["y"]), (), "no declared shape"),
    ],
    ids=["missing", "empty", "garbage", "truncated", "refused", "provider", "inputs"],
)
def test_bad_input_gets_one_sentence(
    tmp_path: Path, content: bytes | None, arguments: tuple[str, ...], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    status, shown, said = inspect(path, *arguments)
    assert status == 1
    assert shown == ""
    assert said.startswith("error: ")
    assert message in said
    assert len(said.splitlines()) == 1
    assert capfd.readouterr() == ("", "")


def test_a_sequence_that_is_too_long_gets_one_sentence(package: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status, _, said = inspect(package, "--sequence", "41")
    assert status == 1
    assert "row 40 asked of a table with 40 rows" in said
    assert len(said.splitlines()) == 1
    assert capfd.readouterr() == ("", "")


def test_sizes_must_be_positive(package: Path) -> None:
    assert inspect(package, "--batch", "0")[0] == 2
    assert "--json" in inspect("--help")[1]
