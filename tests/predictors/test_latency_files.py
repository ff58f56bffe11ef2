from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ortnas.bench.session import Setup
from ortnas.bench.simulated import cost_ms
from ortnas.bench.timing import Workload
from ortnas.nas.architecture.presets import preset
from ortnas.nas.architecture.subnet import Layer, Subnet
from ortnas.predictors.latency_files import LatencyFileError, read_latency_file, write_latency_file
from tests.networks import make_dimensions

LINE = (
    "{'sample_layer_num': 2, 'sample_num_attention_heads': [12, 6], 'sample_hidden_size': 320, "
    "'sample_intermediate_sizes': [512, 640], 'sample_qkv_sizes': [180, 384]}\t6.25\n"
)
SUBNET = Subnet(320, (Layer(0, 12, 15, 512), Layer(1, 6, 64, 640)))
QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(folder: Path, content: str | bytes) -> list[tuple[dict[str, Any], float]]:
    path = folder / "cpu.lat"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_latency_file(path)


def test_a_line_is_a_subnet_and_its_latency(tmp_path: Path) -> None:
    assert read(tmp_path, LINE) == [(SUBNET.to_json(), 6.25)]
    assert Subnet.from_json(read(tmp_path, LINE)[0][0]) == SUBNET


def test_numbers_stand_for_equal_layers_and_the_hidden_size_for_a_missing_width(tmp_path: Path) -> None:
    sizes = {
        "sample_layer_num": 3,
        "sample_hidden_size": 144,
        "sample_intermediate_sizes": 256,
        "sample_num_attention_heads": 12,
    }
    expected = Subnet(144, tuple(Layer(source, 12, 12, 256) for source in range(3)))
    assert read(tmp_path, f"{sizes!r}\t1e-1") == [(expected.to_json(), 0.1)]


def test_spaces_line_ends_and_duplicates_are_kept_apart_from_meaning(tmp_path: Path) -> None:
    dense = LINE.replace(", ", ",").replace(": ", ":").replace("\n", "\r\n")
    rows = read(tmp_path, f"{LINE}\n  \n{dense}{LINE.rstrip()}")
    assert rows == [(SUBNET.to_json(), 6.25)] * 3


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("\t", " ", "there is no tab"),
        ("6.25", "fast", "'fast' is no number of milliseconds"),
        ("6.25", "6.25\t7", "is no number of milliseconds"),
        ("6.25", "-6.25", "is no number of milliseconds"),
        ("6.25", "nan", "is no number of milliseconds"),
        ("6.25", "0.0", "no plausible latency"),
        ("6.25", "1e99", "no plausible latency"),
        ("{", "(", "no dictionary in braces"),
        ("}\t", "\t", "no dictionary in braces"),
        ("}\t", ",}\t", "is no 'key': number"),
        ("'sample_layer_num': 2", "'sample_layer_num': True", "is no 'key': number"),
        ("'sample_layer_num': 2", "'sample_layer_num': [2]", "single numbers"),
        ("'sample_layer_num': 2", "'sample_layer_num': 0", "sample_layer_num is 0"),
        ("'sample_layer_num': 2", "'sample_layer_num': 999999", "sample_layer_num is 999999"),
        ("'sample_layer_num': 2", "'sample_layer_num': 3", "has 2 entries for 3 layers"),
        ("'sample_layer_num': 2, ", "", "sample_layer_num is missing"),
        ("'sample_layer_num': 2,", "'sample_layer_num': 2", "a comma or the closing brace is expected"),
        ("'sample_layer_num'", "'layers'", "unknown key 'layers'; allowed are sample_layer_num"),
        ("'sample_layer_num'", "'sample_hidden_size'", "sample_hidden_size occurs twice"),
        ("320", "0", "sample_hidden_size holds 0"),
        ("320", "1000000000000", "a comma or the closing brace is expected"),
        ("[512, 640]", "[512, -640]", "is no 'key': number"),
        ("[512, 640]", "[]", "holds '' where a whole number"),
        ("[512, 640]", "[512, 64 0]", "holds ' 64 0' where a whole number"),
        ("[512, 640]", "[512, 99999]", "sample_intermediate_sizes holds 99999"),
        ("[180, 384]", "[181, 384]", "12 heads cannot share sample_qkv_sizes of 181 evenly"),
        ("[12, 6]", "[12, 0]", "sample_num_attention_heads holds 0"),
        ("2,", f"2{' ' * 20_000},", "longer than 16384 characters"),
        ("320", "３２０", "is no 'key': number"),
        ("320", "\0", "is no 'key': number"),
    ],
)
def test_a_bad_line_is_one_sentence_with_its_number(tmp_path: Path, old: str, new: str, problem: str) -> None:
    with pytest.raises(LatencyFileError) as caught:
        read(tmp_path, LINE + LINE.replace(old, new, 1) + LINE)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'cpu.lat'}, line 2: ")
    assert problem in message
    assert len(message.splitlines()) == 1


def test_nothing_in_a_file_is_evaluated(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    call = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    for old in ("2", "[12, 6]", "6.25"):
        with pytest.raises(LatencyFileError):
            read(tmp_path, LINE.replace(old, call, 1))
    assert not trace.exists()


def test_files_without_timings_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LatencyFileError, match="holds no timings"):
        read(tmp_path, "\n\n")
    with pytest.raises(LatencyFileError, match=r"missing\.lat cannot be read: No such file"):
        read_latency_file(tmp_path / "missing.lat")
    with pytest.raises(LatencyFileError, match="cannot be read: Is a directory"):
        read_latency_file(tmp_path)


@given(content=st.binary(max_size=200) | st.text("{}[]'sample_ 0123456789,:\t\n", max_size=200).map(str.encode))
@QUIET
def test_junk_never_raises_anything_else(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(LatencyFileError):
        read(tmp_path, content)


@given(data=st.data())
@QUIET
def test_what_is_written_is_read(tmp_path: Path, data: st.DataObject) -> None:
    sizes = st.integers(1, 99)
    layers = st.lists(st.tuples(sizes, sizes, st.integers(1, 9999)), min_size=1, max_size=12)
    subnets = st.builds(
        lambda hidden, layers: Subnet(hidden, tuple(Layer(source, *layer) for source, layer in enumerate(layers))),
        st.integers(1, 9999),
        layers,
    )
    rows = data.draw(st.lists(st.tuples(subnets.map(Subnet.to_json), st.floats(1e-3, 1e7)), min_size=1, max_size=5))
    write_latency_file(tmp_path / "a.lat", rows)
    assert read_latency_file(tmp_path / "a.lat") == rows


def test_a_simulated_host_makes_such_files(tmp_path: Path) -> None:
    dimensions = make_dimensions(hidden_size=768, num_layers=8, num_heads=12, head_size=64, ffn_size=3072)
    space = preset("autotinybert-kd", dimensions)
    subnets = [space.decode(genome).to_json() for genome in space.sample(300, np.random.default_rng(0))]
    rows = [(subnet, cost_ms(subnet, Workload(), Setup(), "fp32")) for subnet in subnets]
    write_latency_file(tmp_path / "a.lat", rows)
    rows_in_file = read_latency_file(tmp_path / "a.lat")
    assert [latency_ms for _, latency_ms in rows_in_file] == [latency_ms for _, latency_ms in rows]
    assert [Subnet.from_json(subnet).multiply_adds for subnet, _ in rows_in_file] == [
        Subnet.from_json(subnet).multiply_adds for subnet in subnets
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["a.lat"]
