from __future__ import annotations

import os
from pathlib import Path

import pytest

from ortnas.bench.file_system import file_system_of, is_shared

_LINES = """
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/vdb /home/local xfs rw 0 0
//server/share /mnt/a\\040share cifs rw 0 0
user@server: /mnt/far fuse.sshfs rw 0 0
tmpfs /mnt/far tmpfs rw 0 0
cut short
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/homes/run", "ext4"),
        ("/home/run", "nfs4"),
        ("/home/local/run/deeper", "xfs"),
        ("/mnt/a share/run", "cifs"),
        ("/mnt/far", "tmpfs"),
    ],
)
def test_the_innermost_and_latest_mount_counts(tmp_path: Path, path: str, kind: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(_LINES)
    assert file_system_of(Path(path), mounts) == kind


def test_a_link_leads_to_where_the_folder_lies(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    (tmp_path / "far").mkdir()
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/ {tmp_path.resolve() / 'far'} nfs rw 0 0\n")
    (tmp_path / "link").symlink_to(tmp_path / "far")
    assert file_system_of(tmp_path / "link" / "run", mounts) == "nfs"
    assert file_system_of(tmp_path / "run", mounts) == "ext4"


def test_without_a_list_of_mounts_nothing_is_said(tmp_path: Path) -> None:
    assert file_system_of(tmp_path, tmp_path / "missing") == ""


@pytest.mark.skipif(not os.path.exists("/proc/self/mounts"), reason="the system has no list of mounts")
def test_the_list_of_this_system_is_read() -> None:
    assert file_system_of(Path("/proc/self")) == "proc"


def test_file_systems_of_several_hosts_are_told_from_the_others() -> None:
    assert all(is_shared(kind) for kind in ("nfs", "nfs4", "cifs", "9p", "fuse.sshfs", "fuse.glusterfs", "lustre"))
    assert not any(is_shared(kind) for kind in ("ext4", "xfs", "btrfs", "overlay", "tmpfs", "fuseblk", "apfs", ""))
