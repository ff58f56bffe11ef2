"""Arm machines that qemu emulates: Debian's Python for arm64 and ONNX Runtime's wheels, below a folder."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_DEBS = ("python3-minimal:arm64", "libpython3-stdlib:arm64", "libstdc++6:arm64")
# The second holds what the first only links to on newer systems.
_EMULATORS = ("qemu-user-static", "qemu-user")
# Of the release that this environment has: digits are compared.
_SAME_RELEASE = ("onnxruntime", "tokenizers")
_WHEEL_TAGS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
_ALL_ARMV8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_ALL_ARMV8_2 = f"{_ALL_ARMV8} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp ssbs"


class UnavailableError(Exception):
    """Why there is no emulated machine here, in a sentence."""


@dataclass(frozen=True)
class Processor:
    """``part`` is the number of Arm's core, ``flags`` what Linux shows of it, ``emulated`` qemu's name for what has the
    instructions."""

    name: str
    part: int
    flags: str
    emulated: str

    @property
    def cpuinfo(self) -> str:
        """As Linux shows it. Without it ONNX Runtime does not start, and with another's it takes the wrong kernels."""
        cores = range(os.cpu_count() or 1)
        return "\n".join(
            f"processor\t: {number}\nBogoMIPS\t: 50.00\nFeatures\t: {self.flags}\nCPU implementer\t: 0x41\n"
            f"CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: 0x{self.part:03x}\nCPU revision\t: 1\n"
            for number in cores
        )


# Neither dot products nor I8MM; dot products; both, and bfloat16.
PROCESSORS = {
    "cortex-a72": Processor("Arm Cortex-A72", 0xD08, _ALL_ARMV8, "cortex-a72"),
    "neoverse-n1": Processor("Arm Neoverse N1", 0xD0C, _ALL_ARMV8_2, "neoverse-n1"),
    "neoverse-v1": Processor(
        "Arm Neoverse V1",
        0xD40,
        f"{_ALL_ARMV8_2} jscvt fcma sha3 sm3 sm4 sha512 sve asimdfhm dit uscat ilrcpc flagm paca pacg dcpodp svei8mm "
        "svebf16 i8mm bf16 dgh rng",
        "max,sme=off,sve-max-vq=2",
    ),
}


def install(folder: Path) -> dict[str, str]:
    """Programs that run Python on each of the processors. What is there already is used.

    Raises UnavailableError.
    """
    if platform.machine().lower() in ("aarch64", "arm64"):
        raise UnavailableError("this machine is an Arm machine itself: `make test` tests it")
    if missing := [program for program in ("apt-get", "dpkg-deb") if shutil.which(program) is None]:
        raise UnavailableError(f"{' and '.join(missing)} are needed to install an emulated machine, as Debian has them")
    folder = folder.resolve()
    wanted = "\n".join([str(folder), *(f"{name}=={version(name)}" for name in _SAME_RELEASE)])
    ready = folder / "ready"
    if not ready.is_file() or ready.read_text() != wanted:
        for part in ("apt", "emulator", "root"):
            shutil.rmtree(folder / part, ignore_errors=True)
        _install_system(folder)
        _install_wheels(folder)
        ready.write_text(wanted)
    return {name: str(_write_processor(folder, name, processor)) for name, processor in PROCESSORS.items()}


def _install_system(folder: Path) -> None:
    """Packages are resolved as for an empty machine of both architectures, with the sources that this one has."""
    state, debs = folder / "apt", folder / "apt" / "archives"
    for part in (state / "lists" / "partial", debs / "partial"):
        part.mkdir(parents=True)
    (state / "status").touch()
    here = _run(["dpkg", "--print-architecture"], folder).strip()
    settings = {
        "APT::Architecture": here,
        "APT::Install-Recommends": "0",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Debug::NoLocking": "1",
        "Dir::Cache": str(state),
        "Dir::State": str(state),
        "Dir::State::lists": str(state / "lists"),
        "Dir::State::status": str(state / "status"),
    }
    architectures = [f"APT::Architectures::={name}" for name in (here, "arm64")]
    options = [f"-o{setting}" for setting in (*(f"{key}={value}" for key, value in settings.items()), *architectures)]
    apt = ["apt-get", "--quiet", *options]
    _run([*apt, "update"], folder)
    _run([*apt, "install", "--yes", "--download-only", *_DEBS], folder)
    for deb in sorted([*debs.glob("*_arm64.deb"), *debs.glob("*_all.deb")]):
        _run(["dpkg-deb", "--extract", str(deb), str(folder / "root")], folder)
    for name in _EMULATORS:
        if _emulator(folder) is None:
            _run([*apt, "download", f"{name}:{here}"], debs)
            (deb,) = debs.glob(f"{name}_*.deb")
            _run(["dpkg-deb", "--extract", str(deb), str(folder / "emulator")], folder)
    if _emulator(folder) is None:
        raise UnavailableError(f"{' and '.join(_EMULATORS)} hold no qemu for aarch64")
    # Those of other processors take a third of a gigabyte.
    for program in (folder / "emulator" / "usr" / "bin").iterdir():
        if "aarch64" not in program.name:
            program.unlink()
    shutil.rmtree(state)
    # Newer systems keep all libraries below usr.
    if not (folder / "root" / "lib").exists():
        (folder / "root" / "lib").symlink_to("usr/lib")


def _install_wheels(folder: Path) -> None:
    number = _interpreter(folder).name.removeprefix("python")
    wheels = ["numpy", *(f"{name}=={version(name)}" for name in _SAME_RELEASE)]
    place = folder / "root" / "usr" / "local" / "lib" / f"python{number}" / "dist-packages"
    options = [f"--platform={tag}" for tag in _WHEEL_TAGS]
    options += ["--only-binary=:all:", f"--python-version={number}", "--implementation=cp"]
    chosen = shlex.split(os.environ.get("PIP_FLAGS", ""))
    command = [sys.executable, "-m", "pip", "install", "--quiet", *chosen, *options, f"--target={place}", *wheels]
    _run(command, folder)


def _write_processor(folder: Path, name: str, processor: Processor) -> Path:
    """The machine with one processor: the same files, beside its own ``proc/cpuinfo``."""
    machine = folder / name
    (machine / "proc").mkdir(parents=True, exist_ok=True)
    (machine / "proc" / "cpuinfo").write_text(processor.cpuinfo)
    for part in sorted((folder / "root").iterdir()):
        if not (machine / part.name).exists():
            (machine / part.name).symlink_to(f"../root/{part.name}")
    # What Python calls itself is this program, so that what it starts is emulated too.
    command = [str(_emulator(folder)), "-cpu", processor.emulated, "-L", str(machine), "-0"]
    home = f"PYTHONHOME={folder / 'root' / 'usr'}"
    words = ["exec", "env", "-u", "PYTHONPATH", "PYTHONNOUSERSITE=1", home, *command]
    program = machine / "python"
    line = f'{" ".join(map(shlex.quote, words))} "$0" {shlex.quote(str(_interpreter(folder)))} "$@"'
    program.write_text(f"#!/bin/sh\n{line}\n")
    program.chmod(0o755)
    return program


def _emulator(folder: Path) -> Path | None:
    programs = [folder / "emulator" / "usr" / "bin" / name for name in ("qemu-aarch64-static", "qemu-aarch64")]
    return next((program for program in programs if program.exists()), None)


def _interpreter(folder: Path) -> Path:
    return (folder / "root" / "usr" / "bin" / "python3").resolve()


def _run(command: list[str], folder: Path) -> str:
    """What it prints. Raises UnavailableError with the last line that it complains in."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]
        raise UnavailableError(f"the emulated machine cannot be installed: {command[0]}: {said}")
    return done.stdout
