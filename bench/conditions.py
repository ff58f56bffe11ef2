"""What a host does to timings right now: clock, limits, neighbours, heat. JSON-ready; what cannot be read is None."""

from __future__ import annotations

import math
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# /proc/stat counts in these (USER_HZ).
_TICKS_PER_S = 100
# Makers and products that machines made of software show in place of real ones.
_VIRTUAL_MACHINES = (
    "qemu",
    "kvm",
    "vmware",
    "virtualbox",
    "virtual machine",
    "xen",
    "amazon ec2",
    "google compute engine",
    "openstack",
    "parallels",
)


def conditions(root: Path = Path("/")) -> dict[str, Any]:
    """One reading, from Linux's files below ``root``; other systems tell less. Two tell what happened in between.

    * ``clock_s``: when it was taken, ``load``: the load average over a minute
    * ``processors``: how many this process may use, on how many ``cores``; ``hyper_threads``: whether other
      processors share those cores; ``capacities``: the kinds of core, by their speeds relative to 1024
    * ``cpu_quota``: how many processors' time the control groups grant, all of them where they set no limit;
      ``quota_stops``: periods in which they stopped their processes
    * ``governors``, ``turbo``, ``frequency_mhz``: the processors' clock, the fastest one's now
    * ``busy_s``, ``steal_s``: how long these processors worked for anybody, and were withheld by the hypervisor;
      ``own_s``: how long they worked for this process
    * ``heat_slowdowns``: how often heat slowed them; ``cooling``: steps by which the system slows them now;
      ``board_flags``: a Raspberry Pi's, bits 0 to 3 for under-voltage, clock capped, throttled and soft temperature
      limit now, bits 16 to 19 for the same since it started
    * ``hypervisor``: whether this is a virtual machine
    """
    processors = _processors(root)
    folders = [root / f"sys/devices/system/cpu/cpu{number}" for number in processors]
    siblings = {text for folder in folders if (text := _text(folder / "topology/thread_siblings_list"))}
    busy_s, steal_s = _processor_time(root, processors)
    own = os.times()
    return {
        "clock_s": time.monotonic(),
        "load": _load(),
        "processors": len(processors),
        "cores": len(siblings) or None,
        "hyper_threads": any(len(_numbers(text)) > 1 for text in siblings) if siblings else None,
        "capacities": sorted(set(_integers(folders, "cpu_capacity"))) or None,
        **_quota(root, len(processors)),
        "governors": sorted({text for folder in folders if (text := _text(folder / "cpufreq/scaling_governor"))})
        or None,
        "turbo": _turbo(root, folders),
        "frequency_mhz": _frequency_mhz(root, folders),
        "busy_s": busy_s,
        "steal_s": steal_s,
        "own_s": own.user + own.system + own.children_user + own.children_system,
        "heat_slowdowns": _heat_slowdowns(folders),
        "cooling": _cooling(root),
        "board_flags": _board_flags(root),
        "hypervisor": _hypervisor(root),
    }


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip().strip("\0")
    except OSError:
        return None


def _lines(path: Path) -> list[str]:
    return (_text(path) or "").splitlines()


def _integers(folders: Sequence[Path], name: str) -> list[int]:
    """What the files of that name hold, wherever one can be read."""
    return [int(text) for folder in folders if (text := _text(folder / name)) and text.isdigit()]


def _numbers(text: str) -> list[int]:
    """A list as the kernel writes it: ``0-3,8``."""
    numbers: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def _processors(root: Path) -> list[int]:
    """Those that this process may use."""
    for line in _lines(root / "proc/self/status"):
        if line.startswith("Cpus_allowed_list:"):
            allowed = _numbers(line.partition(":")[2])
            # The list may name processors that are not there yet.
            online = _text(root / "sys/devices/system/cpu/online")
            return sorted(set(allowed) & set(_numbers(online))) if online else allowed
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _processor_time(root: Path, processors: Sequence[int]) -> tuple[float | None, float | None]:
    """Seconds of work of anybody, and seconds stolen by the hypervisor."""
    names = {f"cpu{number}" for number in processors}
    rows = [line.split() for line in _lines(root / "proc/stat")]
    ticks = [tuple(map(int, row[1:9])) for row in rows if len(row) > 8 and row[0] in names]
    # Sandboxes show zeros.
    if not any(map(any, ticks)):
        return None, None
    busy = sum(user + nice + system + interrupt + soft for user, nice, system, _, _, interrupt, soft, _ in ticks)
    return busy / _TICKS_PER_S, sum(row[-1] for row in ticks) / _TICKS_PER_S


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Processors that the control groups of this process grant; None where they set no limit."""
    granted = min(map(_granted, _groups(root)), default=math.inf)
    return granted if math.isfinite(granted) else None


def usable_processors(root: Path = Path("/")) -> int:
    """Threads that can run at a time: processors that this process may use, or less where control groups grant less.

    What ONNX Runtime, torch and others start by themselves is a thread for each core of the machine (onnxruntime issue
    29510); those above the quota use it up and are stopped.
    """
    granted = cpu_quota(root)
    processors = len(_processors(root))
    return max(1, processors if granted is None else min(processors, math.ceil(granted)))


def _quota(root: Path, processors: int) -> dict[str, Any]:
    groups = _groups(root)
    if not groups:
        return {"cpu_quota": None, "quota_stops": None}
    stops = [line.split() for group in groups for line in _lines(group / "cpu.stat")]
    return {
        "cpu_quota": min(float(processors), *map(_granted, groups)),
        "quota_stops": sum(int(row[1]) for row in stops if row[0] == "nr_throttled"),
    }


def _groups(root: Path) -> list[Path]:
    """Folders of the control groups that this process is in, innermost first; any of them may limit it."""
    folders: list[Path] = []
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 has one tree, version 1 one for each controller.
        for mount in ("cpu", "cpu,cpuacct") if controllers else ("", "unified"):
            top = root / "sys/fs/cgroup" / mount
            # A group that lies outside of what a container sees is seen as the top.
            here = top if ".." in path.split("/") else top / path.lstrip("/")
            folders += [folder.resolve() for folder in (here, *here.parents) if folder.is_relative_to(top)]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _granted(group: Path) -> float:
    """Processors whose time a control group grants; infinite where it sets no limit."""
    if text := _text(group / "cpu.max"):
        quota_us, _, period_us = text.partition(" ")
    else:
        quota_us, period_us = (_text(group / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period"))
    # No limit is "max" in version 2, -1 in version 1.
    return int(quota_us) / int(period_us) if quota_us.isdigit() and period_us.isdigit() else math.inf


def _turbo(root: Path, folders: Sequence[Path]) -> bool | None:
    system = root / "sys/devices/system/cpu"
    if (text := _text(system / "intel_pstate/no_turbo")) is not None:
        return text == "0"
    if (text := _text(system / "cpufreq/boost")) is not None:
        return text == "1"
    boosted = _integers(folders, "cpufreq/boost")
    return any(boosted) if boosted else None


def _frequency_mhz(root: Path, folders: Sequence[Path]) -> float | None:
    if found_khz := _integers(folders, "cpufreq/scaling_cur_freq"):
        return max(found_khz) / 1000
    found_mhz = [float(line.partition(":")[2]) for line in _lines(root / "proc/cpuinfo") if line.startswith("cpu MHz")]
    return max(found_mhz) if found_mhz else None


def _heat_slowdowns(folders: Sequence[Path]) -> int | None:
    counts = [
        count
        for level in ("core", "package")
        for count in _integers(folders, f"thermal_throttle/{level}_throttle_count")
    ]
    return sum(counts) if counts else None


def _cooling(root: Path) -> int | None:
    devices = root.glob("sys/class/thermal/cooling_device*")
    slowing = [device for device in devices if _slows_processors(_text(device / "type") or "")]
    steps = _integers(slowing, "cur_state")
    return max(steps) if steps else None


def _slows_processors(device_type: str) -> bool:
    return device_type == "Processor" or "cpufreq" in device_type


def _board_flags(root: Path) -> int | None:
    if not (_text(root / "proc/device-tree/model") or "").startswith("Raspberry Pi"):
        return None
    text = _text(root / "sys/devices/platform/soc/soc:firmware/get_throttled") or _ask_firmware()
    try:
        return int(text.strip().rpartition("=")[2], 16)
    except ValueError:
        return None


def _ask_firmware() -> str:
    command = ["vcgencmd", "get_throttled"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _hypervisor(root: Path) -> bool | None:
    for line in _lines(root / "proc/cpuinfo"):
        # x86 processors say so themselves.
        if line.startswith("flags"):
            return "hypervisor" in line.split()
    if _text(root / "sys/hypervisor/type") or (root / "proc/device-tree/hypervisor").exists():
        return True
    maker = [_text(root / "sys/class/dmi/id" / name) or "" for name in ("sys_vendor", "product_name")]
    board = _text(root / "proc/device-tree/model") or ""
    shown = " ".join([*maker, board]).lower()
    if not shown.strip():
        return None
    if maker[1].endswith(".metal"):
        return False
    return "dummy-virt" in shown or any(name in shown for name in _VIRTUAL_MACHINES)
