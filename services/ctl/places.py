"""Places: which directories a stack may have. It clears some of what is in them, and changes their modes."""

from __future__ import annotations

import os
from pathlib import Path

from shared.runtime.config import Config, ConfigError

__all__ = ["ROOT_LOCK", "check_places"]

ROOT_LOCK = "dockyard.lock"  # a file in each root that there has been
OURS = ("builder", "containers", "engine.", "graph", "tmp", "volumes")  # what the names in a root begin with
NOT_OURS_BUT_EMPTY = "lost+found"  # of a file system
SYSTEM = frozenset(
    map(
        Path,
        "/ /bin /boot /dev /etc /home /lib /lib32 /lib64 /media /mnt /opt /proc /root /run /sbin /srv /sys /tmp /usr "
        "/dev/shm /etc/dockyard /run/lock /run/systemd /run/user /usr/bin /usr/lib /usr/local /usr/sbin /usr/share "
        "/var /var/backups /var/cache /var/lib /var/local /var/log /var/mail /var/spool /var/tmp".split(),
    )
)
SHOWN = 3  # names


def check_places(config: Config) -> None:
    """Root and run are directories for a stack alone. Raises ConfigError; makes and changes nothing."""
    root, run = (Path(os.path.realpath(path)) for path in (config.root, config.run))
    for setting, path in (("root", root), ("run", run)):
        if path in SYSTEM:
            raise ConfigError(f"{setting}: {path} is a directory of the system's: name one of its own for dockyard")
    if root == run or root in run.parents or run in root.parents:
        raise ConfigError(f"root and run must not be the same, nor one inside the other: {root}, {run}")
    _check_content(root)


def _check_content(root: Path) -> None:
    """What is in a root is removed where no record has it."""
    try:
        names = [path.name for path in root.iterdir()]
    except OSError:  # it is to be made; or who claims it says what is wrong
        return
    others = sorted(name for name in names if name != NOT_OURS_BUT_EMPTY and not name.startswith(OURS))
    if others and ROOT_LOCK not in names:
        shown = ", ".join(others[:SHOWN]) + (", …" if len(others) > SHOWN else "")
        raise ConfigError(f"root: {root} holds what is not dockyard's ({shown}): name an empty directory, or a new one")
