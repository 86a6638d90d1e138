from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from pathlib import Path

from services.graphdriver.syscalls import FS_IOC_GETFLAGS, FS_TOPDIR_FL, spread_out

EXT = "ext2/ext3"  # so stat(1) calls all of them


def flags(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return int(struct.unpack("l", fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, struct.pack("l", 0)))[0])
    finally:
        os.close(descriptor)


def test_directories_are_spread_out_where_the_file_system_can(tmp_path: Path) -> None:
    kind = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True, check=True).stdout
    done = spread_out(tmp_path)
    assert done or kind.strip() != EXT
    assert not done or flags(tmp_path) & FS_TOPDIR_FL
    assert spread_out(tmp_path) == done


def test_what_has_no_such_attribute_is_left_alone() -> None:
    assert not spread_out(Path("/proc/self"))
