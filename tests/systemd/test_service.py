"""The service under a real systemd: when it is active, what stays when it goes, and who brings it back."""

from __future__ import annotations

import re
import time

import pytest

from tests.integration.conftest import until
from tests.systemd.conftest import Machine, come_back

pytestmark = pytest.mark.root

COUNTER = "n=0; while :; do n=$((n + 1)); echo $n; sleep 0.05; done"


def run_counter(machine: Machine, *options: str) -> str:
    """Start a container that counts; returns the pid of its init."""
    machine.docker("run", "-d", "--name", "counter", *options, "busybox", "sh", "-c", COUNTER)
    return machine.docker("inspect", "-f", "{{.State.Pid}}", "counter")


def assert_untouched(machine: Machine, pid: str) -> None:
    """It is the same process, and its log has no gap."""
    assert machine.docker("inspect", "-f", "{{.State.Pid}} {{.State.Running}}", "counter") == f"{pid} true"
    count = len(machine.docker("logs", "counter").split())
    until(lambda: len(machine.docker("logs", "counter").split()) > count)
    seen = [int(line) for line in machine.docker("logs", "counter").split()]
    assert seen == list(range(1, len(seen) + 1))


def test_the_units_are_right(machine: Machine) -> None:
    verify = "systemd-analyze verify --man=no dockyard.* dockyard-shutdown.service"
    assert machine.sh(f"cd /etc/systemd/system; {verify} 2>&1") == ""
    rated = machine.sh("systemd-analyze security --no-pager dockyard.service | tail -1")
    assert (
        float(re.findall(r"level for dockyard.service: ([\d.]+)", rated)[0]) <= 9.6
    )  # dockerd's: what it would like better, containers would inherit


def test_it_is_active_only_when_the_api_has_answered(machine: Machine) -> None:
    """The API's workers are held up: the unit is activating, and says what it waits for."""
    ini, go = "/run/held-up.ini", "/run/held-up.go"
    run = f'sh -c "until [ -e {go} ]; do sleep 0.05; done; exec python -m services.apiserver"'
    machine.write(ini, (machine.checkout / "circus.ini").read_text().replace("python -m services.apiserver", run))
    machine.drop_in("ExecStart=", f"ExecStart={machine.program} up --circus-ini {ini}")
    machine.systemctl("start", "--no-block", "dockyard.service")
    until(lambda: machine.show("StatusText")["StatusText"] == "starting apiserver", 30)
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        assert machine.state() == "activating"
    assert machine.show("StatusText")["StatusText"] == "starting apiserver"
    machine.sh(f"touch {go}")
    until(lambda: machine.state() == "active", 30)
    assert machine.show("StatusText")["StatusText"] == "ready"
    assert machine.docker("version", "--format", "{{.Server.Version}}")
    said = re.findall(
        r"dockyard.arbiter (first ping answered|ready service=apiserver|ready)$", machine.journal(), re.MULTILINE
    )
    assert said[-3:] == ["ready service=apiserver", "first ping answered", "ready"]


def test_the_first_docker_ps_starts_the_stack_and_is_answered(machine: Machine) -> None:
    machine.systemctl("start", "dockyard.socket")
    assert machine.state() == "inactive"
    assert machine.docker("ps", "--format", "{{.Names}}") == ""
    assert machine.state() == "active"
    assert machine.sh("stat -c '%a %U %G' /run/dockyard/docker.sock /run/dockyard") == "660 root docker\n711 root root"
    machine.systemctl("stop", "dockyard.service")  # the socket goes on listening, and starts it again
    assert machine.docker("images", "-q", "busybox")
    assert machine.state() == "active"


@pytest.mark.parametrize("verbs", [("restart",), ("stop", "start")], ids=" ".join)
def test_containers_outlive_the_service(started: Machine, verbs: tuple[str, ...]) -> None:
    pid = run_counter(started)
    started.docker("exec", "-d", "counter", "sleep", "1000")
    for verb in verbs:
        started.systemctl(verb, "dockyard.service")
        scopes = started.systemctl("list-units", "--plain", "--no-legend", "dockyard-*.scope").stdout.split("\n")
        assert len([line for line in scopes if line]) == 1
        assert started.sh(f"cat /proc/{pid}/comm") == "sh"
        if verb == "stop":
            assert not started.processes()
    assert_untouched(started, pid)
    assert "sleep 1000" in started.docker("top", "counter")
    assert started.docker("exec", "counter", "echo", "hello") == "hello"
    assert started.docker("run", "--rm", "busybox", "echo", "hello") == "hello"
    started.docker("stop", "-t", "1", "counter")
    assert started.docker("wait", "counter") == "137"


def test_a_container_is_a_unit_that_goes_with_it(started: Machine) -> None:
    started.docker("run", "-d", "--name", "web", "--memory", "64m", "busybox", "sleep", "1000")
    identifier = started.docker("inspect", "-f", "{{.Id}}", "web")
    scope = f"dockyard-{identifier}.scope"
    shown = started.show("Slice", "ActiveState", "Delegate", unit=scope)
    assert shown == {"Slice": "dockyard.slice", "ActiveState": "active", "Delegate": "yes"}
    assert "Cgroup Driver: systemd" in started.docker("info")
    processes = started.sh(f"systemd-cgls --no-pager -u {scope}")
    assert "conmon" in processes
    assert "sleep 1000" in processes
    for _ in range(3):  # a scope of the same name, at once again
        started.docker("restart", "-t", "0", "web")
    started.docker("rm", "-f", "web")
    until(lambda: started.show("ActiveState", unit=scope)["ActiveState"] == "inactive")
    assert started.sh(f"find /sys/fs/cgroup -name '{scope}'") == ""
    refused = started.run("docker", "run", "--rm", "--cgroup-parent", "/mine", "busybox", "true", check=False)
    assert "cgroup-parent for systemd cgroup should be a valid slice" in refused.stderr
    own = ("run", "--rm", "--cgroup-parent", "mine-own.slice", "--cgroupns=host", "busybox", "cat", "/proc/self/cgroup")
    assert ":/mine.slice/mine-own.slice/dockyard-" in started.docker(*own)


def test_a_kill_for_memory_is_known_though_systemd_has_removed_the_cgroup_that_counted_it(started: Machine) -> None:
    """Nobody of ours looks when the container ends, and its scope goes with its monitor."""
    eats = "while [ ! -e /go ]; do sleep 0.05; done; x=a; while :; do x=$x$x; done"
    started.docker("run", "-d", "--name", "eater", "--memory", "16m", "busybox", "sh", "-c", eats)
    identifier = started.docker("inspect", "-f", "{{.Id}}", "eater")
    (execdriver,) = started.pids("execdriver")
    started.docker("exec", "-d", "eater", "sh", "-c", "sleep 1; touch /go")
    started.kill("STOP", execdriver)
    try:
        counts = f"ls -d /sys/fs/cgroup/{{memory/,}}dockyard.slice/dockyard-{identifier}.scope/container 2>/dev/null"
        until(lambda: not started.run("bash", "-c", counts, check=False).stdout, 30, "its cgroup is still there")
    finally:
        started.kill("CONT", execdriver)
    assert started.docker("wait", "eater") == "137"
    assert started.docker("inspect", "-f", "{{.State.OOMKilled}}", "eater") == "true"


@pytest.mark.parametrize("part", ["engine", "arbiter"])
def test_the_watchdog_ends_a_stack_of_which_a_part_hangs(started: Machine, part: str) -> None:
    """The arbiter: as it would for a child in an uninterruptible sleep, for which circus waits in its event loop."""
    started.drop_in("WatchdogSec=6")
    started.systemctl("restart", "dockyard.service")
    pid = run_counter(started)
    (hanging,) = started.pids(part)
    said = started.journal().count("Watchdog timeout")
    started.kill("STOP", hanging)
    come_back(started, 1)
    assert started.journal().count("Watchdog timeout") == said + 1
    assert hanging not in started.processes()
    assert_untouched(started, pid)
    assert started.docker("run", "--rm", "busybox", "echo", "hello") == "hello"


def test_a_killed_arbiter_is_restarted_and_its_children_are_gone(started: Machine) -> None:
    pid = run_counter(started)
    before = started.processes()
    main = int(started.show("MainPID")["MainPID"])
    started.kill("KILL", main)
    come_back(started, int(started.show("NRestarts")["NRestarts"]) or 1)
    until(lambda: started.show("MainPID")["MainPID"] not in ("0", str(main)))
    until(lambda: started.state() == "active", 30)
    assert not before.keys() & started.processes().keys()
    assert_untouched(started, pid)


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_what_a_part_has_sent_to_the_background_ends_with_the_service(machine: Machine, ending: str) -> None:
    """circus does not know of it: it is no child's child any more."""
    ini = "/run/daemonizing.ini"
    run = 'sh -c "setsid --fork sleep 4711000 && exec python -m services.builder"'
    machine.write(ini, (machine.checkout / "circus.ini").read_text().replace("python -m services.builder", run))
    machine.drop_in("ExecStart=", f"ExecStart={machine.program} up --circus-ini {ini}")
    machine.systemctl("start", "dockyard.service")
    before = machine.processes()
    assert [pid for pid, command in before.items() if command.startswith("sleep 4711000")]
    if ending == "stop":
        machine.systemctl("stop", "dockyard.service")
        assert not machine.processes()
        return
    main = machine.show("MainPID")["MainPID"]
    machine.kill("KILL", int(main))
    until(lambda: machine.show("MainPID")["MainPID"] not in ("0", main) and machine.state() == "active", 60)
    assert not before.keys() & machine.processes().keys()


def test_a_killed_part_comes_back_and_the_unit_stays_as_it_is(started: Machine) -> None:
    before = started.show("MainPID", "NRestarts")
    for service in ("engine", "reader", "graphdriver", "dns", "netdriver", "execdriver", "apiserver"):
        pids = started.pids(service)
        started.kill("KILL", *pids)
        until(lambda s=service, p=pids: (now := started.pids(s)) and None not in now and not {*now} & {*p}, 30)
        assert started.docker("run", "--rm", "busybox", "echo", service) == service
    assert started.show("MainPID", "NRestarts") == before
    assert started.state() == "active"


def test_the_journal_has_the_log_with_priorities_and_job_ids(started: Machine) -> None:
    started.docker("run", "--rm", "busybox", "true")
    job = started.sh(
        f"{started.program} job containers >/dev/null; {started.program} jobs --name start --limit 1 --json"
    )
    identifier = job.partition('"id":"')[2][:32]
    assert identifier in started.dockyard("logs").stdout
    assert identifier in started.dockyard("trace", identifier[:12]).stdout
    engine = started.dockyard("logs", "engine", "-n", "1000").stdout
    assert "dockyard.jobs +job start(" in engine
    assert "dockyard.arbiter" not in engine
    assert "dockyard.arbiter ready" in started.dockyard("logs", "arbiter", "--lines", "50").stdout
    started.kill("KILL", *started.pids("netdriver"))
    until(lambda: "service lost name=netdriver" in started.run(
        "journalctl", "-u", "dockyard", "-p", "warning", "-o", "cat", "--no-pager").stdout)  # fmt: skip
    serious = started.run("journalctl", "-u", "dockyard", "-p", "warning", "-o", "cat", "--no-pager").stdout
    assert " INFO " not in serious


def test_reload_is_an_upgrade(started: Machine) -> None:
    pid = run_counter(started)
    before = started.show("MainPID", "NRestarts")
    engine = started.pids("engine")
    started.write("/etc/dockyard/dockyard.toml", "debug = true\n")
    started.systemctl("reload", "dockyard.service")
    assert started.state() == "active"
    assert started.show("MainPID", "NRestarts") == before
    assert started.pids("engine") != engine
    assert started.docker("info", "--format", "{{.Debug}}") == "true"
    assert_untouched(started, pid)
    # one that cannot be carried out is told, and changes nothing
    started.write("/etc/dockyard/dockyard.toml", "colour = 'blue'\n")
    failed = started.systemctl("reload", "dockyard.service", check=False)
    assert failed.returncode
    assert "unknown key: colour" in started.journal()
    assert "unknown key: colour" in started.systemctl("status", "dockyard.service").stdout
    assert started.state() == "active"
    assert started.show("MainPID", "NRestarts") == before


def test_a_bridge_that_containers_are_on_is_not_taken_from_them(started: Machine) -> None:
    """Reload with another bip: refused as long as a container has an address there; and no start hangs on it."""
    before, show = started.show("MainPID"), ("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge")
    was = started.docker(*show)
    pid = run_counter(started)
    started.write("/etc/dockyard/dockyard.toml", 'bip = "10.123.0.1/24"\n')
    engine = started.pids("engine")
    assert started.systemctl("reload", "dockyard.service", check=False).returncode
    assert "and containers have addresses there" in started.systemctl("status", "dockyard.service").stdout
    assert (started.state(), started.pids("engine")) == ("active", engine)
    assert started.docker(*show) == was
    started.systemctl("restart", "dockyard.service")
    assert started.docker(*show) == was
    assert_untouched(started, pid)
    started.docker("rm", "-f", "counter")
    before = started.show("MainPID")
    started.systemctl("reload", "dockyard.service")
    assert started.show("MainPID") == before
    assert started.docker(*show) == "10.123.0.1"
    assert started.docker("run", "--rm", "busybox", "ping", "-c", "1", "10.123.0.1")
    started.write("/etc/dockyard/dockyard.toml", f'bip = "{was}/16"\n')
    started.systemctl("restart", "dockyard.service")
    assert started.docker(*show) == was


def test_a_stack_is_seen_and_stopped_whatever_the_file_says_now(started: Machine) -> None:
    started.write("/run/dockyard/dockyard.log", "2014-06-09 12:00:00,000 INFO dockyard.engine of a stack by hand\n")
    started.write("/etc/dockyard/dockyard.toml", "colour = 'blue'\n")
    for command in (["ps"], ["logs"], ["jobs"], ["top", "--once"]):
        answer = started.dockyard(*command)
        assert answer.stderr == "dockyard: the configuration is wrong: unknown key: colour; going on without that\n"
        assert answer.stdout
        assert "by hand" not in answer.stdout
    assert started.dockyard("down").returncode == 0
    until(lambda: started.state() == "failed", 30)  # systemd has started it again
    assert "unknown key: colour" in started.dockyard("logs").stdout
    assert "by hand" not in started.dockyard("logs").stdout
    started.run("rm", "/run/dockyard/dockyard.log")


def test_what_nobody_would_answer_on_is_refused(started: Machine) -> None:
    started.write("/etc/dockyard/dockyard.toml", 'hosts = ["tcp://127.0.0.1:2375"]\n')
    assert started.systemctl("reload", "dockyard.service", check=False).returncode
    assert "add fd:// to hosts" in started.systemctl("status", "dockyard.service").stdout
    assert started.state() == "active"
    assert started.systemctl("restart", "dockyard.service", check=False).returncode
    assert started.show("ActiveState", "ExecMainStatus") == {"ActiveState": "failed", "ExecMainStatus": "78"}
    assert "add fd:// to hosts" in started.dockyard("logs", "-n", "20").stdout


def test_a_wrong_configuration_fails_at_once_with_the_reason(machine: Machine) -> None:
    machine.write("/etc/dockyard/dockyard.toml", "colour = 'blue'\n")
    assert machine.systemctl("start", "dockyard.service", check=False).returncode
    assert machine.show("ActiveState", "NRestarts", "ExecMainStatus") == {
        "ActiveState": "failed", "NRestarts": "0", "ExecMainStatus": "78",
    }  # fmt: skip
    status = machine.systemctl("status", "dockyard.service", check=False).stdout
    assert "unknown key: colour" in status


@pytest.mark.long
def test_a_part_that_never_comes_up_ends_as_a_failed_unit(machine: Machine) -> None:
    """Part, stack, unit: it is tried again and again, but not for ever, and never in silence."""
    ini = "/run/broken.ini"
    machine.sh(f"sed 's/services.netdriver$/services.nothing/' {machine.checkout}/circus.ini > {ini}")
    machine.drop_in("ExecStart=", f"ExecStart={machine.program} up --circus-ini {ini}")
    machine.systemctl("start", "--no-block", "dockyard.service")
    until(lambda: machine.state() == "failed", 80, machine.journal()[-2000:])
    shown = machine.show("Result", "NRestarts", "StatusText")
    assert shown["NRestarts"] == "3"
    assert re.fullmatch(r"netdriver was restarted \d+ times in 60 s", shown["StatusText"])
    status = machine.systemctl("status", "dockyard.service", check=False).stdout
    assert "netdriver was restarted" in status
    assert not machine.processes()
