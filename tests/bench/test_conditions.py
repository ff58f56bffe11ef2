"""Trees of /proc and /sys are laid out as real files, as the systems that are named would show them."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ortnas.bench.conditions import conditions, usable_processors
from ortnas.export.package.predict import granted_processors

PROCESSORS = "sys/devices/system/cpu"


def lay_out(root: Path, files: Mapping[str, str | int]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def stat(*rows: tuple[int, ...]) -> str:
    """/proc/stat of these processors; a row holds user, nice, system, idle, wait, interrupt, soft and steal ticks."""
    total = tuple(map(sum, zip(*rows, strict=True)))
    named = [("cpu ", total), *((f"cpu{number}", row) for number, row in enumerate(rows))]
    return "\n".join(f"{name} {' '.join(map(str, (*row, 0, 0)))}" for name, row in named) + "\nctxt 12345"


def desktop(root: Path, allowed: str = "0-3") -> Path:
    """Four processors on two cores of an Intel machine."""
    files: dict[str, str | int] = {
        "proc/self/status": f"Name:\tpython\nCpus_allowed:\tf\nCpus_allowed_list:\t{allowed}",
        "proc/stat": stat(
            (100, 20, 30, 9000, 50, 1, 2, 0),
            (1000, 200, 300, 7000, 50, 10, 20, 7),
            (4, 0, 0, 9900, 0, 0, 0, 0),
            (8, 0, 0, 9900, 0, 0, 0, 0),
        ),
        "proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni\ncpu MHz\t\t: 1000.0",
        f"{PROCESSORS}/online": "0-3",
        f"{PROCESSORS}/intel_pstate/no_turbo": 0,
    }
    for number in range(4):
        files |= {
            f"{PROCESSORS}/cpu{number}/topology/thread_siblings_list": f"{number % 2},{number % 2 + 2}",
            f"{PROCESSORS}/cpu{number}/cpufreq/scaling_governor": "powersave" if number else "performance",
            f"{PROCESSORS}/cpu{number}/cpufreq/scaling_cur_freq": 800_000 + 100_000 * number,
            f"{PROCESSORS}/cpu{number}/thermal_throttle/core_throttle_count": number,
            f"{PROCESSORS}/cpu{number}/thermal_throttle/package_throttle_count": 10,
        }
    return lay_out(root, files)


def test_this_host_is_read_and_its_counters_grow() -> None:
    first = conditions()
    json.dumps(first)
    # The work of this process, however long it takes, shows in its time.
    for _ in range(10_000):
        sum(range(100_000))
        if (second := conditions())["own_s"] > first["own_s"]:
            break
    assert second["own_s"] > first["own_s"]
    assert second["clock_s"] > first["clock_s"]
    assert second["processors"] >= 1
    assert (first["busy_s"] is None) == (second["busy_s"] is None)
    assert first["busy_s"] is None or second["busy_s"] >= first["busy_s"] > 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads what the kernel of Linux says")
def test_processors_are_those_that_this_process_may_use() -> None:
    assert conditions()["processors"] == len(os.sched_getaffinity(0))


def test_a_desktop_shows_everything(tmp_path: Path) -> None:
    reading = conditions(desktop(tmp_path))
    assert (reading["processors"], reading["cores"], reading["hyper_threads"]) == (4, 2, True)
    assert reading["governors"] == ["performance", "powersave"]
    assert reading["turbo"] is True
    assert reading["frequency_mhz"] == 1100
    assert reading["busy_s"] == pytest.approx((153 + 1530 + 4 + 8) / 100)
    assert reading["steal_s"] == pytest.approx(0.07)
    assert reading["heat_slowdowns"] == 0 + 1 + 2 + 3 + 40
    assert reading["hypervisor"] is False


def test_other_processors_than_those_of_this_process_do_not_count(tmp_path: Path) -> None:
    reading = conditions(desktop(tmp_path, allowed="0,2"))
    assert (reading["processors"], reading["cores"], reading["hyper_threads"]) == (2, 1, True)
    assert reading["frequency_mhz"] == 1000
    assert reading["busy_s"] == pytest.approx(1.57)
    assert reading["steal_s"] == 0
    assert reading["heat_slowdowns"] == 22


def test_processors_that_are_allowed_but_not_there_do_not_count(tmp_path: Path) -> None:
    assert conditions(desktop(tmp_path, allowed="0-63"))["processors"] == 4


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    reading = conditions(tmp_path)
    readable = {"clock_s", "load", "processors", "own_s"}
    assert {key for key, value in reading.items() if value is not None} - {"load"} == readable - {"load"}
    json.dumps(reading)


def test_a_system_without_linux_calls_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sched_getaffinity", "getloadavg"):
        monkeypatch.delattr(os, name, raising=False)
    reading = conditions(tmp_path)
    assert reading["processors"] == os.cpu_count()
    assert reading["load"] is None


def test_a_sandbox_that_counts_no_work_is_not_taken_for_an_idle_host(tmp_path: Path) -> None:
    reading = conditions(lay_out(desktop(tmp_path), {"proc/stat": stat(*[(0,) * 8] * 4)}))
    assert reading["busy_s"] is None
    assert reading["steal_s"] is None


_QUOTAS = pytest.mark.parametrize(
    ("files", "quota", "stops"),
    [
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5, 0),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 4, 0),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "800000 100000"}, 4, 0),
        (
            {
                "proc/self/cgroup": "0::/user.slice/job.service",
                "sys/fs/cgroup/user.slice/cpu.max": "50000 100000",
                "sys/fs/cgroup/user.slice/cpu.stat": "usage_usec 9\nnr_periods 50\nnr_throttled 7\nthrottled_usec 80",
                "sys/fs/cgroup/user.slice/job.service/cpu.max": "300000 100000",
                "sys/fs/cgroup/user.slice/job.service/cpu.stat": "usage_usec 9\nnr_periods 50\nnr_throttled 5",
                "sys/fs/cgroup/other.slice/cpu.max": "10000 100000",
            },
            0.5,
            12,
        ),
        (
            # A container's own group is the top of what it sees.
            {
                "proc/self/cgroup": "5:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n0::/",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": 200_000,
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": 100_000,
                "sys/fs/cgroup/cpu,cpuacct/cpu.stat": "nr_periods 4\nnr_throttled 3\nthrottled_time 1000",
            },
            2,
            3,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": -1,
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": 100_000,
            },
            4,
            0,
        ),
        ({"proc/self/cgroup": "0::/../../elsewhere", "sys/fs/cgroup/cpu.max": "100000 100000"}, 1, 0),
        ({"proc/self/cgroup": "0::/"}, None, None),
    ],
)


@_QUOTAS
def test_the_tightest_control_group_counts(
    tmp_path: Path, files: dict[str, str | int], quota: float | None, stops: int | None
) -> None:
    reading = conditions(lay_out(desktop(tmp_path), files))
    assert (reading["cpu_quota"], reading["quota_stops"]) == (quota, stops)


@_QUOTAS
def test_threads_are_no_more_than_processors_and_quota_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str | int], quota: float | None, stops: int | None
) -> None:
    expected = 4 if quota is None else max(1, math.ceil(quota))
    root = lay_out(desktop(tmp_path), files)
    assert usable_processors(root) == expected
    # A package says the same without this project; it asks the system for the processors that the process may use.
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    assert granted_processors(root) == expected


def test_on_this_machine_a_package_counts_as_we_do() -> None:
    assert 1 <= usable_processors() <= (os.cpu_count() or 1)
    assert granted_processors() == usable_processors()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs a system that holds processes to processors")
def test_a_process_that_is_held_to_one_processor_uses_one() -> None:
    code = "from bench.conditions import usable_processors as count; print(count())"
    script = f"import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); {code}"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout == b"1\n"


@pytest.mark.parametrize(
    ("name", "content", "turbo"),
    [
        ("intel_pstate/no_turbo", 1, False),
        ("cpufreq/boost", 1, True),
        ("cpufreq/boost", 0, False),
        ("cpu0/cpufreq/boost", 1, True),
        ("cpu0/cpufreq/boost", 0, False),
    ],
)
def test_turbo_is_found_under_all_its_names(tmp_path: Path, name: str, content: int, turbo: bool) -> None:
    files: dict[str, str | int] = {f"{PROCESSORS}/{name}": content, f"{PROCESSORS}/online": "0"}
    assert conditions(lay_out(tmp_path, files | {"proc/self/status": "Cpus_allowed_list:\t0"}))["turbo"] is turbo


def test_fast_and_slow_cores_show(tmp_path: Path) -> None:
    capacities = {f"{PROCESSORS}/cpu{number}/cpu_capacity": 446 if number < 2 else 1024 for number in range(4)}
    assert conditions(lay_out(desktop(tmp_path), capacities))["capacities"] == [446, 1024]


def test_steps_of_cooling_are_those_of_processors(tmp_path: Path) -> None:
    device = "sys/class/thermal/cooling_device"
    files: dict[str, str | int] = {}
    for number, (kind, step) in enumerate([("Fan", 3), ("thermal-cpufreq-0", 2), ("Processor", 0)]):
        files |= {f"{device}{number}/type": kind, f"{device}{number}/cur_state": step}
    assert conditions(lay_out(tmp_path, files))["cooling"] == 2


BOARD: dict[str, str | int] = {"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"}


def test_the_flags_of_a_raspberry_pi_come_from_its_firmware(tmp_path: Path) -> None:
    files = BOARD | {"sys/devices/platform/soc/soc:firmware/get_throttled": "50005"}
    reading = conditions(lay_out(tmp_path, files))
    assert reading["board_flags"] == 0x50005
    assert reading["hypervisor"] is False


@pytest.mark.skipif(os.name != "posix", reason="starts a shell script")
@pytest.mark.parametrize(
    ("script", "flags"),
    [("echo throttled=0xe0008", 0xE0008), ("echo VCHI initialization failed", None), ("exit 1", None), (None, None)],
)
def test_or_from_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, flags: int | None
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    if script is not None:
        command = programs / "vcgencmd"
        command.write_text(f'#!/bin/sh\n[ "$1" = get_throttled ] || exit 2\n{script}\n')
        command.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    assert conditions(lay_out(tmp_path, BOARD))["board_flags"] == flags


MAKER, PRODUCT = "sys/class/dmi/id/sys_vendor", "sys/class/dmi/id/product_name"


@pytest.mark.parametrize(
    ("files", "virtual"),
    [
        ({"proc/cpuinfo": "flags\t\t: fpu hypervisor avx2"}, True),
        ({"proc/cpuinfo": "flags\t\t: fpu avx2", MAKER: "QEMU"}, False),
        ({"proc/cpuinfo": "Features\t: fp asimd asimddp"}, None),
        ({"sys/hypervisor/type": "xen"}, True),
        ({"proc/device-tree/hypervisor/compatible": "xen,xen"}, True),
        ({"proc/device-tree/model": "linux,dummy-virt\0"}, True),
        ({MAKER: "Amazon EC2", PRODUCT: "m7g.large"}, True),
        ({MAKER: "Amazon EC2", PRODUCT: "m7g.metal"}, False),
        ({MAKER: "QEMU", PRODUCT: "KVM Virtual Machine"}, True),
        ({MAKER: "Ampere", PRODUCT: "Altra"}, False),
    ],
)
def test_virtual_machines_are_told_from_real_ones(tmp_path: Path, files: dict[str, Any], virtual: bool | None) -> None:
    assert conditions(lay_out(tmp_path, files))["hypervisor"] is virtual
