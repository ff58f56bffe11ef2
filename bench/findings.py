"""What a host's conditions say about timings taken there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .session import Setup

State = Literal["pass", "warn", "fail", "unknown"]
# What bench.conditions reads.
Reading = Mapping[str, Any]

# Processors that other programs may keep busy, and the load average that stands for them where they are not counted.
_BUSY_PROCESSORS, _BUSY_LOAD = 0.1, 0.5
# Shares of the time, and of the clock, that may go.
_STOLEN_SHARE, _CLOCK_SHARE = 0.01, 0.1
# Bits of a Raspberry Pi's flags: the supply's voltage, and what slows the clock. Sixteen bits further: since the start.
_VOLTAGE_BIT, _SLOWED_BITS, _SINCE_START = 0x1, 0xE, 16


@dataclass(frozen=True)
class Finding:
    """One fact about a host: what was seen, what it does to timings and what to do. ``fail`` spoils them, ``warn``
    adds noise, ``unknown`` may do either."""

    name: str
    state: State
    detail: str


def findings(readings: Sequence[Reading], setup: Setup) -> list[Finding]:
    """What the host's conditions before the first and after every session say. Unreadable facts are unknown, not
    passed."""
    now = readings[-1]
    return [
        _threads(now, setup),
        _quota(readings, setup),
        _hyper_threads(now, setup),
        _core_kinds(now),
        _governor(now),
        _turbo(now),
        _clock(readings),
        _heat(readings),
        _other_programs(readings),
        _steal(readings),
        _hypervisor(now),
    ]


def _threads(now: Reading, setup: Setup) -> Finding:
    name, threads = "processors", setup.threads
    processors = len(setup.affinity) or now.get("processors")
    if processors is None:
        return Finding(name, "unknown", "how many this process may use cannot be read; it needs one for each thread")
    if threads > processors:
        detail = f"{threads} threads on {processors}: they wait for each other within every product; use {processors}"
        return Finding(name, "fail", detail)
    return Finding(name, "pass", f"{processors} for {threads} thread(s)")


def _quota(readings: Sequence[Reading], setup: Setup) -> Finding:
    name, quota, stops = "quota", readings[-1].get("cpu_quota"), _grown(readings, "quota_stops")
    if quota is None:
        return Finding(name, "unknown", "the control groups cannot be read; one that grants too little stops threads")
    processors = readings[-1].get("processors")
    if processors is not None and quota >= processors:
        return Finding(name, "pass", "the control groups grant all processors")
    if quota < setup.threads:
        detail = (
            f"the control group grants {quota:g} processors to {setup.threads} thread(s) and stops them in "
            f"mid-inference until its next period; raise it (docker --cpus) or use fewer threads"
        )
        return Finding(name, "fail", detail)
    if stops:
        detail = (
            f"the control group stopped its processes in {stops:.0f} periods of the measurement; raise its quota of "
            f"{quota:g} processors, or end what shares it"
        )
        return Finding(name, "warn", detail)
    return Finding(name, "pass", f"{quota:g} processors are granted")


def _hyper_threads(now: Reading, setup: Setup) -> Finding:
    name, shared, cores = "hyper-threads", now.get("hyper_threads"), now.get("cores")
    if shared is None:
        return Finding(name, "unknown", "whether processors share cores cannot be read; those that do slow each other")
    if shared and cores and setup.threads > cores and not setup.affinity:
        detail = f"{setup.threads} threads on {cores} core(s): those that share one slow each other; use {cores}"
        return Finding(name, "warn", detail)
    if shared:
        detail = (
            "processors share cores: whatever runs on a core's other processor slows the timed one; leave it idle, or "
            "hold the threads to one processor a core (target.affinity)"
        )
        return Finding(name, "warn", detail)
    if now.get("hypervisor"):
        detail = "the virtual machine shows every processor as a core; below it, neighbours may share them"
        return Finding(name, "unknown", detail)
    return Finding(name, "pass", "every processor is a core of its own")


def _core_kinds(now: Reading) -> Finding:
    name, kinds = "kinds of core", now.get("capacities")
    if kinds is None:
        detail = "they cannot be read; where fast and slow cores mix, threads move between them (target.affinity)"
        return Finding(name, "unknown", detail)
    if len(kinds) > 1:
        detail = (
            f"{len(kinds)}, the slowest with {kinds[0] / kinds[-1]:.0%} of the fastest's speed: threads move between "
            f"them; hold them to one kind (target.affinity)"
        )
        return Finding(name, "warn", detail)
    return Finding(name, "pass", "all alike")


def _governor(now: Reading) -> Finding:
    name, governors = "clock governor", now.get("governors")
    if governors is None:
        return Finding(name, "unknown", "it cannot be read; where the clock follows the load, timings do too")
    if governors != ["performance"]:
        detail = (
            f"{', '.join(governors)}: the clock follows the load, and timings the clock; set it with "
            f"`echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor`"
        )
        return Finding(name, "warn", detail)
    return Finding(name, "pass", "performance: the clock does not wait for load")


def _turbo(now: Reading) -> Finding:
    name, turbo = "turbo", now.get("turbo")
    if turbo is None:
        return Finding(name, "unknown", "it cannot be read; with it, the clock depends on heat and on busy cores")
    if turbo:
        detail = (
            "on: the clock depends on heat and on how many cores are busy; leave it as where packages will serve, "
            "or write 1 to intel_pstate/no_turbo or 0 to cpufreq/boost in /sys/devices/system/cpu"
        )
        return Finding(name, "warn", detail)
    return Finding(name, "pass", "off: the clock has no short bursts")


def _clock(readings: Sequence[Reading]) -> Finding:
    """All readings but the first are taken right after work."""
    name = "clock"
    found_mhz = [value for reading in readings[1:] if (value := reading.get("frequency_mhz")) is not None]
    if not found_mhz:
        return Finding(name, "unknown", "the frequency cannot be read; where it falls, timings grow")
    low, high = min(found_mhz), max(found_mhz)
    if low < high * (1 - _CLOCK_SHARE):
        detail = (
            f"between {low:.0f} and {high:.0f} MHz after the sessions: timings move as far; the anchor takes out what "
            f"lasts longer than a round; see to governor, turbo and cooling"
        )
        return Finding(name, "warn", detail)
    if readings[-1].get("hypervisor") and low == high:
        return Finding(name, "unknown", f"the virtual machine shows {high:.0f} MHz, whatever the clock does")
    return Finding(name, "pass", f"{low:.0f} to {high:.0f} MHz after the sessions")


def _heat(readings: Sequence[Reading]) -> Finding:
    name, slowdowns = "heat and supply", _grown(readings, "heat_slowdowns")
    steps = [value for reading in readings if (value := reading.get("cooling")) is not None]
    flags = [value for reading in readings if (value := reading.get("board_flags")) is not None]
    seen = 0
    for value in flags:
        seen |= value
    # What is set at the end and was not before happened in between, even if no reading fell on it.
    seen |= (flags[-1] & ~flags[0]) >> _SINCE_START if flags else 0
    if slowdowns or any(steps) or seen & _SLOWED_BITS:
        return Finding(name, "warn", "heat slowed the processors in the measurement; cool them better, or pause more")
    if seen & _VOLTAGE_BIT:
        detail = "the supply's voltage fell, which caps the clock; take a stronger supply or a shorter cable"
        return Finding(name, "warn", detail)
    if seen >> _SINCE_START:
        detail = "slowed by heat or low voltage since it started, though not in the measurement; it may come again"
        return Finding(name, "warn", detail)
    if slowdowns is None and not steps and not flags:
        return Finding(name, "unknown", "neither can be read; a processor that grows too hot slows its clock")
    return Finding(name, "pass", "no slow-down in the measurement")


def _other_programs(readings: Sequence[Reading]) -> Finding:
    name, now = "other programs", readings[-1]
    busy, own, passed = (_grown(readings, key) for key in ("busy_s", "own_s", "clock_s"))
    load = readings[0].get("load")
    if busy is None or own is None or not passed:
        if load is None:
            return Finding(name, "unknown", "neither their work nor the load can be read; they take cache and clock")
        if load < _BUSY_LOAD:
            return Finding(name, "unknown", f"their work is not counted; the load was {load:.2f} before")
        detail = f"the load was {load:.2f} before the measurement; what runs beside takes cache and clock, so end it"
        return Finding(name, "warn", detail)
    others, processors = max(0.0, (busy - own) / passed), now.get("processors")
    among = "" if processors is None else f" of {processors}"
    if others > _BUSY_PROCESSORS:
        detail = (
            f"they kept {others:.1f}{among} processors busy; they take cache, clock and processors from what is timed; "
            f"end them, or time when they rest"
        )
        return Finding(name, "warn", detail)
    return Finding(name, "pass", f"they kept {others:.2f}{among} processors busy")


def _steal(readings: Sequence[Reading]) -> Finding:
    name, stolen, busy = "stolen time", _grown(readings, "steal_s"), _grown(readings, "busy_s")
    if stolen is None or busy is None or not stolen + busy:
        return Finding(name, "unknown", "it cannot be read; a hypervisor may run neighbours in between")
    if readings[-1].get("hypervisor") and not readings[-1]["steal_s"]:
        return Finding(name, "unknown", "the hypervisor has never reported any, so it may not report it at all")
    share = stolen / (stolen + busy)
    if share > _STOLEN_SHARE:
        detail = (
            f"the hypervisor gave {share:.1%} of the processors' time to neighbours; time at another hour, or take a "
            f"machine with processors of its own"
        )
        return Finding(name, "warn", detail)
    return Finding(name, "pass", f"{share:.1%} of the processors' time")


def _hypervisor(now: Reading) -> Finding:
    name, virtual = "neighbours", now.get("hypervisor")
    if virtual is None:
        return Finding(name, "unknown", "whether this is a virtual machine cannot be read; its neighbours are not seen")
    if virtual:
        detail = (
            "a virtual machine: what neighbours do to caches, memory and clock is not seen; time in sessions that lie "
            "apart, and trust the noise floor below more than the checks"
        )
        return Finding(name, "warn", detail)
    return Finding(name, "pass", "none: no virtual machine")


def _grown(readings: Sequence[Reading], key: str) -> float | None:
    """By how much a counter grew. None where it cannot be read, or began anew, as a new worker's own time does."""
    first, last = readings[0].get(key), readings[-1].get(key)
    return None if first is None or last is None or last < first else float(last - first)
