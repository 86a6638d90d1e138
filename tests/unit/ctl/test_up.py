"""What `dockyard up` refuses before anything runs: one line, an exit status, no traceback."""

from __future__ import annotations

import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.ctl import up
from services.ctl.listeners import make_listeners
from shared.runtime.config import Config, ConfigError


@pytest.fixture
def config() -> Iterator[Config]:
    with tempfile.TemporaryDirectory(prefix="dy") as directory:  # short: a socket's path has 107 bytes
        yield Config(root=Path(directory, "root"), run=Path(directory, "run"))


def test_a_root_has_one_stack(config: Config) -> None:
    lock = up.take_lock(config.root)
    assert lock is not None
    assert up.take_lock(config.root) is None


@pytest.mark.parametrize(
    "host",
    ["tcp://0.0.0.0:2375", "tcp://[::]:2375", "tcp://127.0.0.1:99999", "tcp://127.0.0.1:-1", "tcp://127.0.0.1:0",
     "tcp://localhost", "unix://relative", "fd://", "nonsense"],
)  # fmt: skip
def test_an_address_that_is_not_served_names_its_key(host: str) -> None:
    with pytest.raises(ConfigError, match="hosts: "):
        make_listeners(Config(hosts=(host,)))


def test_a_stale_socket_is_replaced(config: Config) -> None:
    for _ in range(2):
        (listener,) = make_listeners(config)
        path = config.run / "docker.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        listener.close()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "does not exist"),
        ("[watcher:a]\ncmd = true\nmax_retry = -1\n", "max_retry of a"),
        ("cmd = true\n", "no section headers"),
    ],
)
def test_a_bad_circus_ini_is_a_line_and_78(config: Config, text: str | None, why: str) -> None:
    config.run.mkdir()
    ini = config.run / "circus.ini"
    if text is not None:
        ini.write_text(text)
    script = (
        "import sys; from pathlib import Path; from services.ctl import up; from shared.runtime.config import Config"
    )
    script += "; sys.exit(up.run_stack(Config(run=Path(sys.argv[1])), Path(sys.argv[2]), []))"
    command = [sys.executable, "-c", script, str(config.run), str(ini)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == up.EX_CONFIG
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("dockyard: ")
    assert why in lines[0]
