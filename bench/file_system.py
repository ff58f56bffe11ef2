"""The file system that a folder lies on, and whether other hosts may write there too."""

from __future__ import annotations

import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mounts")
# Those that several hosts, or a host and its guests, mount at once.
_SHARED = {
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "cvmfs", "drvfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs",
    "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "prl_fs", "smb2", "smb3", "smbfs", "sshfs", "vboxsf", "virtiofs",
    "vmhgfs", "wekafs",
}  # fmt: skip


def file_system_of(path: Path, mounts: Path = _MOUNTS) -> str:
    """Its type as the system names it, such as ``ext4`` or ``nfs4``; empty where the system has no list of mounts.

    ``path`` need not exist.
    """
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    place, deepest, kind = path.resolve(), -1, ""
    for _, escaped, mounted_kind, *_ in (fields for line in lines if len(fields := line.split(" ")) >= 3):
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), escaped))
        # Of two at one place, the later one hides the other.
        if place.is_relative_to(point) and len(point.parts) >= deepest:
            deepest, kind = len(point.parts), mounted_kind
    return kind


def is_shared(kind: str) -> bool:
    """Whether a file system of this type may be written by other hosts."""
    return kind.removeprefix("fuse.") in _SHARED
