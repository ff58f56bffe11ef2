"""JSON of subnets as it arrives: the subnet that it says, or one sentence."""

from __future__ import annotations

import json
import random
from pathlib import Path

from ortnas.nas.architecture.subnet import SpaceError
from ortnas.nas.run.configuration import ConfigurationError
from ortnas.nas.stages.find_subnet import read_subnet
from tests.mutations import assert_sentence, mutated, seeds
from tests.networks import make_dimensions, make_space


def test_mutated_subnets_are_read_right_or_refused_in_one_sentence(tmp_path: Path) -> None:
    space, dimensions, path = make_space(), make_dimensions(), tmp_path / "subnet.json"
    original = {"format": 5, "subnet": space.largest.to_json(), "labels": ["a"]}
    read = 0
    for seed in seeds():
        rng = random.Random(seed)
        content = mutated(rng.choice((original, original["subnet"])), rng)
        path.write_bytes(content)
        try:
            subnet = read_subnet(path)
            dimensions.check(subnet)
        except (ConfigurationError, SpaceError) as error:
            assert_sentence(error)
            continue
        read += 1
        document = json.loads(content.decode("utf-8-sig"))
        document = document.get("subnet", document)
        assert subnet.hidden_size == document["hidden_size"]
        names = ("source", "num_heads", "head_size", "ffn_size")
        layers = [{name: layer[name] for name in names} for layer in document["layers"]]
        assert subnet.to_json()["layers"] == layers
        try:
            assert (space.decode(space.encode(subnet))) == subnet
        except SpaceError as error:
            assert_sentence(error)
    assert read


def test_a_very_long_subnet_is_refused_in_one_sentence(tmp_path: Path) -> None:
    layers = [{"source": 0, "num_heads": 1, "head_size": number, "ffn_size": number} for number in range(5000)]
    for document in ({"hidden_size": 8, "layers": layers}, {"hidden_size": 10**4000, "layers": layers}):
        (tmp_path / "subnet.json").write_text(json.dumps(document))
        for judge in (make_dimensions().check, make_space().encode):
            try:
                judge(read_subnet(tmp_path / "subnet.json"))
            except (ConfigurationError, SpaceError) as error:
                assert_sentence(error)
            else:
                raise AssertionError("it fits no network")
