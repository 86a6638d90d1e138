"""An upgrade under load: every process is another afterwards, and no client has noticed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import DOCKYARD, until

pytestmark = pytest.mark.root

ASKER = """\
while :; do
  if printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 2 {} 80 | grep -q HTTP; then echo answered; else echo lost; fi
  sleep 0.05
done"""
LISTENER = """\
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
sys.stdin.read()"""
SERVICES = ("engine", "reader", "graphdriver", "dns", "netdriver", "execdriver", "apiserver")


class ApiConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("dockyard", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self.path))


class Load:
    """Clients in a loop, until told to stop; what goes wrong is kept."""

    def __init__(self, stack: Any) -> None:
        self.stack = stack
        self.errors: list[str] = []
        self.done: dict[str, int] = {}
        self.longest: dict[str, float] = {}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._loop, args=(one,)) for one in (self.ask, self.run, self.read)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        until(lambda: len(self.done) == len(self._threads), 30)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _loop(self, one: Callable[[], None]) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                one()
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.errors.append(f"{one.__name__}: {type(error).__name__} {error}")
            took = time.monotonic() - began
            self.longest[one.__name__] = max(took, self.longest.get(one.__name__, 0))
            self.done[one.__name__] = self.done.get(one.__name__, 0) + 1

    def ask(self) -> None:
        """A connection each."""
        connection = ApiConnection(self.stack.run / "docker.sock")
        try:
            connection.request("GET", "/v1.43/containers/json")
            answer = connection.getresponse()
            assert (answer.status, [c["Names"] for c in json.loads(answer.read()) if c["Names"] == ["/web"]]) == (
                200, [["/web"]],
            )  # fmt: skip
        finally:
            connection.close()

    def read(self) -> None:
        """Ten requests on one connection that is kept, until the server says that it closes it."""
        connection = ApiConnection(self.stack.run / "docker.sock")
        try:
            for _ in range(10):
                connection.request("GET", "/v1.43/containers/web/json")
                answer = connection.getresponse()
                assert (answer.status, json.loads(answer.read())["State"]["Running"]) == (200, True)
                if answer.will_close:
                    break
        finally:
            connection.close()

    def run(self) -> None:
        made = self.stack.docker("run", "--rm", "busybox", "echo", "hello", check=False)
        assert (made.returncode, made.stdout) == (0, "hello\n"), made.stderr


def test_an_upgrade_is_seen_by_nobody(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sh", "-c",
                 "n=0; while :; do n=$((n + 1)); echo $n; sleep 0.05; done")  # fmt: skip
    stack.docker("run", "-d", "--name", "server", "busybox", "httpd", "-f", "-p", "80", "-h", "/")
    address = stack.out("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "server")
    stack.docker("run", "-d", "--name", "asker", "busybox", "sh", "-c", ASKER.format(address))
    before = {service: set(stack.pids(service)) for service in SERVICES}
    arbiter, pid = stack.process.pid, stack.out("inspect", "-f", "{{.State.Pid}}", "web")
    attached = subprocess.Popen(
        ["docker", "run", "--rm", "-i", "busybox", "sh", "-c", "while read x; do echo got $x; done"],
        env=stack.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert attached.stdin is not None
    assert attached.stdout is not None
    attached.stdin.write("one\n")
    attached.stdin.flush()
    assert attached.stdout.readline() == "got one\n"
    with Load(stack) as load:
        begun = dict(load.done)
        stack.dockyard("upgrade")
        counted = dict(load.done)
        until(lambda: all(load.done[name] > counted[name] + 2 for name in counted), 30)
    print({name: (load.done[name] - begun[name], round(load.longest[name], 3)) for name in begun})
    assert not load.errors
    attached.stdin.write("two\n")
    attached.stdin.close()
    assert attached.stdout.read() == "got two\n"
    assert attached.wait(30) == 0
    attached.stdout.close()
    until(lambda: not any(set(stack.pids(service)) & before[service] for service in SERVICES))
    assert {service: len(pids) for service, pids in before.items()} == {s: len(stack.pids(s)) for s in SERVICES}
    assert stack.process.pid == arbiter
    assert not stack.ended()
    assert stack.out("inspect", "-f", "{{.State.Pid}}", "web") == pid
    seen = [int(line) for line in stack.docker("logs", "web").stdout.split()]
    assert seen == list(range(1, len(seen) + 1))
    answers = stack.out("logs", "asker").split()
    assert len(answers) > 10
    assert set(answers) == {"answered"}
    said = [line for _, line in stack.notifications]
    assert said.index("RELOADING=1") > said.index("READY=1")
    assert said.count("READY=1") == 2
    assert {sender for sender, _ in stack.notifications} == {arbiter}


def test_what_cannot_run_is_not_begun(new_stack: Callable[..., Any], tmp_path: Path) -> None:
    """The configuration is wrong, then a program of circus.ini: the stack goes on as it is, and says why."""
    file, ini = tmp_path / "dockyard.toml", tmp_path / "circus.ini"
    shipped = (Path(__file__).parents[2] / "circus.ini").read_text()
    file.write_text("")
    ini.write_text(shipped)
    stack = new_stack(DOCKYARD_CONFIG=str(file))
    stack.arguments = ["--circus-ini", str(ini)]
    stack.start()
    before = stack.pids("engine")
    file.write_text('colour = "blue"\n')
    refused = stack.dockyard("--config", "/dev/null", "upgrade", check=False)
    assert refused.returncode == 1
    assert "unknown key: colour" in refused.stderr
    inside = ["nsenter", f"--net=/proc/{stack.process.pid}/ns/net", sys.executable, "-c", LISTENER]
    with subprocess.Popen(inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as listener:
        port = int(listener.stdout.readline())
        for setting, why in (
            ('group = "none-such"', "group: no such group: none-such"),
            (f'metrics-addr = "127.0.0.1:{port}"', f"cannot listen on 127.0.0.1:{port}: Address already in use"),
        ):
            file.write_text(f"{setting}\n")
            refused = stack.dockyard("--config", "/dev/null", "upgrade", check=False)
            assert (refused.returncode, why in refused.stderr) == (1, True), (setting, refused.stderr)
        listener.communicate()
    file.write_text("")
    ini.write_text(shipped.replace("python -m services.graphdriver", "python -m services.graphdriver_of_tomorrow"))
    refused = stack.dockyard("upgrade", check=False)
    assert refused.returncode == 1
    assert "services.graphdriver_of_tomorrow does not run: " in refused.stderr
    until(lambda: any(line.startswith("STATUS=ready; no upgrade") for _, line in stack.notifications))
    assert stack.pids("engine") == before
    assert stack.out("ps", "-q") == ""

    # SIGHUP does the same as the command, and new settings are taken over
    ini.write_text(shipped)
    file.write_text("debug = true\n")
    stack.process.send_signal(signal.SIGHUP)
    until(lambda: stack.pids("engine") and stack.pids("engine") != before, 60)
    until(lambda: sum(line == "READY=1" for _, line in stack.notifications) == 6, 60)
    assert stack.out("info", "--format", "{{.Debug}}") == "true"
    assert json.loads(stack.dockyard("ps", "--json").stdout)


def test_scaled_services_stay_so_and_the_lock_is_never_free(stack: Any) -> None:
    stack.dockyard("scale", "apiserver", "3")
    upgrading = subprocess.Popen([DOCKYARD, "upgrade"], env=stack.environ, stdout=subprocess.PIPE)
    while upgrading.poll() is None:
        second = stack.dockyard("up", check=False)
        assert (second.returncode, second.stderr) == (1, f"dockyard: another dockyard stack runs on {stack.root}\n")
    assert upgrading.communicate()[0]
    rows = json.loads(stack.dockyard("ps", "--json").stdout)
    assert sum(row["service"] == "apiserver" and row["state"] == "active" for row in rows) == 3
    stack.dockyard("scale", "apiserver", "2")


def test_a_stack_that_is_stopped_in_an_upgrade_leaves_nothing(new_stack: Callable[..., Any]) -> None:
    stack = new_stack().start()
    upgrading = subprocess.Popen(
        [DOCKYARD, "upgrade"], env=stack.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(lambda: stack.said("STATUS=replacing execdriver"), 60)
    os.kill(stack.process.pid, signal.SIGTERM)
    assert stack.process.wait(30) == 0
    upgrading.kill()
    upgrading.wait()
    assert not stack.leftovers()
