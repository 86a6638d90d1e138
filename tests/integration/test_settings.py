"""Settings on a real stack: what docker sees of them, and what `dockyard up` refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import DOCKYARD, Stack

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One stack with as many settings as go together, from file, environment and flags."""
    directory = Path(tempfile.mkdtemp(prefix="dy", dir="/tmp"))
    (directory / "dockyard.toml").write_text(
        'fixed-cidr = "10.213.0.64/27"\nip-masq = false\ndns = ["192.0.2.53"]\nmtu = 9000\n'
        'insecure-registries = ["box:5000", "10.0.0.0/8"]\nrestart = false\nstorage-opt = ["overlay.index=on"]\n'
    )
    runtime = "runc" if shutil.which("runc") else "crun"
    stack = Stack(directory, DOCKYARD_CONFIG=str(directory / "dockyard.toml"), DOCKYARD_MTU="1300")
    flags = ["--dns-search", "corp.example", "--registry-mirror", "http://mirror.example", "--icc=false"]
    listeners = ["-H", f"unix://{stack.run}/docker.sock", "-H", "127.0.0.1:2375", "--api-enable-cors"]
    stack.arguments = [*flags, *listeners, "-e", runtime]
    stack.start()
    stack.dockyard("busybox")
    yield stack
    stack.close()


def test_a_container_sees_them(stack: Stack) -> None:
    script = "ip -o -4 address show eth0; cat /sys/class/net/eth0/mtu; cat /etc/resolv.conf"
    lines = stack.out("run", "--rm", "busybox", "sh", "-c", script).splitlines()
    address = lines[0].split("inet ")[1].split("/")[0]
    assert 64 <= int(address.removeprefix("10.213.0.")) < 96
    assert lines[1:] == ["1300", "nameserver 192.0.2.53", "search corp.example"]


def test_info_and_inspect_show_them(stack: Stack) -> None:
    info = json.loads(stack.out("info", "--format", "{{json .}}"))
    assert info["RegistryConfig"]["Mirrors"] == ["http://mirror.example/"]
    assert info["RegistryConfig"]["InsecureRegistryCIDRs"] == ["10.0.0.0/8", "127.0.0.0/8"]
    assert info["RegistryConfig"]["IndexConfigs"]["box:5000"]["Secure"] is False
    assert (info["LiveRestoreEnabled"], info["Driver"]) == (True, "overlay")
    (network,) = json.loads(stack.out("network", "inspect", "bridge"))
    assert network["Options"]["com.docker.network.bridge.enable_icc"] == "false"
    assert network["Options"]["com.docker.network.bridge.enable_ip_masquerade"] == "false"
    assert network["IPAM"]["Config"] == [
        {"Subnet": "10.213.0.0/24", "IPRange": "10.213.0.64/27", "Gateway": "10.213.0.1"}
    ]
    assert "box:5000" in stack.out("info")


def test_the_runtime_runs_containers_and_says_why_it_cannot(stack: Stack) -> None:
    runtime = stack.out("info", "--format", "{{.DefaultRuntime}}")
    assert stack.out("version", "--format", "{{range .Server.Components}}{{.Name}} {{end}}").split()[1] == runtime
    assert stack.docker("run", "--rm", "busybox", "sh", "-c", "exit 5", check=False).returncode == 5
    missing = stack.docker("run", "--rm", "busybox", "nonesuch", check=False)
    assert missing.returncode == 127
    assert 'exec: "nonesuch": executable file not found in $PATH' in missing.stderr
    assert stack.docker("run", "--rm", "busybox", "/etc", check=False).returncode == 126
    stack.docker("run", "-d", "--name", "long", "busybox", "sleep", "600")
    assert stack.docker("exec", "long", "sh", "-c", "exit 6", check=False).returncode == 6
    assert stack.docker("exec", "long", "nonesuch", check=False).returncode == 127
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if f"{stack.root}/graph" in line]
    assert ["index=on" in line for line in mounts] == [True]
    stack.docker("stop", "-t", "0", "long")
    assert stack.out("inspect", "-f", "{{.HostConfig.Runtime}} {{.State.ExitCode}}", "long") == f"{runtime} 137"
    stack.docker("rm", "long")


def test_the_second_listener_answers_pages_of_any_origin(stack: Stack) -> None:
    assert stack.process is not None
    script = (
        "import urllib.request as u; r = u.Request('http://127.0.0.1:2375/_ping', headers={'Origin': 'http://x'}); "
        "a = u.urlopen(r, timeout=10); print(a.status, a.headers['Access-Control-Allow-Origin'])"
    )
    command = ["nsenter", f"--net=/proc/{stack.process.pid}/ns/net", "python3", "-c", script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "200 *\n"


def test_temporary_files_and_the_pid_file_have_their_places(stack: Stack) -> None:
    assert stack.process is not None
    assert (stack.run / "dockyard.pid").read_text() == str(stack.process.pid)
    environ = Path(f"/proc/{stack.pids('graphdriver')[0]}/environ").read_text().split("\0")
    assert f"TMPDIR={stack.root}/tmp" in environ
    assert "DOCKYARD_CONFIG=/dev/null" in environ


def test_ip_masq_off_masquerades_nothing(stack: Stack) -> None:
    assert stack.process is not None
    command = ["nsenter", f"--net=/proc/{stack.process.pid}/ns/net", "nft", "list", "set", "inet"]
    sets = subprocess.run(
        [*command, "dockyard_dytest0", "masqueraded4"], capture_output=True, text=True, check=True
    ).stdout
    assert "elements" not in sets  # only what is published is masqueraded


def test_the_pid_file_goes_with_the_stack_and_containers_live_on(new_stack: Callable[..., Any]) -> None:
    stack = new_stack(DOCKYARD_RESTART="false")
    stack.start()
    stack.dockyard("busybox")
    stack.docker("run", "-d", "--restart", "always", "--name", "runs", "busybox", "sleep", "600")
    stack.docker("run", "-d", "--restart", "always", "--name", "stops", "busybox", "sleep", "600")
    before = stack.out("inspect", "-f", "{{.State.Pid}}", "runs")
    stops = int(stack.out("inspect", "-f", "{{.State.Pid}}", "stops"))
    stack.stop()
    assert not (stack.run / "dockyard.pid").exists()
    os.kill(stops, 9)
    (stack.run / "dockyard.pid").write_text("1")  # stale, and of a process that runs: no reason not to start
    stack.notifications.clear()
    stack.start()
    assert stack.out("inspect", "-f", "{{.State.Pid}}", "runs") == before
    assert stack.out("inspect", "-f", "{{.State.Status}}", "stops") == "exited"


def test_without_firewall_no_port_is_published_and_the_rest_works(new_stack: Callable[..., Any]) -> None:
    stack = new_stack(DOCKYARD_IPTABLES="false")
    stack.start()
    stack.dockyard("busybox")
    assert stack.out("run", "--rm", "busybox", "echo", "runs") == "runs"
    refused = stack.docker("run", "--name", "web", "-p", "8080:80", "busybox", "true", check=False)
    assert refused.returncode == 125
    assert "a port cannot be published without rules: firewall = false" in refused.stderr


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["-e", "lxc"], 78, "exec-driver: unknown exec driver lxc"),
        (["--iptables=false", "--icc=false"], 78, "You specified --firewall=false with --icc=false."),
        (["-H", "tcp://0.0.0.0:2375"], 78, "hosts: 'tcp://0.0.0.0:2375' is not a loopback address"),
        (["-H", "fd://"], 78, "hosts: 'fd://': no such socket was handed over in LISTEN_FDS"),
        (["--root", "/dev/null"], 78, "root: /dev/null is not a directory"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(new_stack: Callable[..., Any], flags: list[str], status: int, message: str) -> None:
    stack = new_stack()
    refused = stack.dockyard("up", *flags, check=False)
    assert refused.returncode == status
    assert refused.stderr.startswith(f"dockyard: {message}")
    assert len(refused.stderr.splitlines()) == 1


def test_a_storage_driver_that_cannot_work_here_is_named(new_stack: Callable[..., Any]) -> None:
    """overlayfs takes no upper directory on an overlayfs that has no whiteouts of its own: here, a second level."""
    stack = new_stack()
    stack.directory.mkdir(exist_ok=True)
    script = (
        f"cd {stack.directory} && mkdir l u w root && mount -t overlay -o lowerdir=l,upperdir=u,workdir=w overlay root "
        f"&& mkdir root/l root/u root/w root/root && exec {DOCKYARD} up -s overlay --root {stack.directory}/root/root"
    )
    refused = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], env=stack.environ, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 78, refused.stderr
    assert refused.stderr.startswith(
        f"dockyard: storage-driver: overlay does not work in {stack.directory}/root/root: "
    )
