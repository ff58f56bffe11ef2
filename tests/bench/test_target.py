from __future__ import annotations

from ortnas.bench.session import Setup
from ortnas.bench.target import Target
from ortnas.bench.timing import Workload

TARGET = Target({"cpu": "one"}, Setup(), (Workload(),))
MIX = Target({"cpu": "one"}, Setup(), (Workload(weight=3), Workload(4, 32)))


def test_the_hash_of_a_target_stays_what_it_was() -> None:
    assert (TARGET.hash, MIX.hash) == ("f01e52b1daf4", "1b295853fd26")


def test_a_target_is_named_by_all_that_it_is() -> None:
    variants = {
        TARGET.hash,
        MIX.hash,
        Target({"cpu": "two"}, Setup(), (Workload(),)).hash,
        Target({"cpu": "one"}, Setup(threads=2), (Workload(),)).hash,
        Target({"cpu": "one"}, Setup(spinning=False), (Workload(),)).hash,
        Target({"cpu": "one"}, Setup(affinity=(0,)), (Workload(),)).hash,
        Target({"cpu": "one"}, Setup(), (Workload(sequence=64),)).hash,
    }
    assert len(variants) == 7
    padded = Target({"cpu": "one"}, Setup(), (Workload(lengths=(7, 9)),))
    assert padded.hash == TARGET.hash
    assert TARGET.differences(padded) == []
    other = Target({"cpu": "two"}, Setup(threads=2), (Workload(),))
    assert TARGET.differences(other) == ["cpu: 'two', here 'one'", "threads: 2, here 1"]
    assert "workload 2 batch: 4, here None" in TARGET.differences(MIX)
