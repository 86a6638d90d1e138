"""What a service may have: health checks it waits for, networks, volumes, secrets, profiles, ports; run and cp."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tests.composing import major, since
from tests.integration.conftest import until

pytestmark = pytest.mark.root

SLEEP = {"image": "busybox", "command": ["sleep", "1000"], "init": True}
HTTPD = {
    "image": "busybox",
    "command": ["sh", "-c", "mkdir -p /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www"],
    "init": True,
}


def test_a_service_waits_for_a_healthy_one(project: Any) -> None:
    check = {"test": ["CMD", "test", "-e", "/ready"], "interval": "0.3s", "timeout": "5s", "retries": 50}
    slow = {"image": "busybox", "command": ["sh", "-c", "sleep 2; touch /ready; exec sleep 1000"], "init": True}
    app = project(
        {
            "db": {**slow, "healthcheck": check},
            "web": {**SLEEP, "depends_on": {"db": {"condition": "service_healthy"}}},
        }
    )
    app("up", "-d")
    db, web = app.container("db")["State"], app.container("web")["State"]
    assert db["Health"]["Status"] == "healthy"
    first = next(entry for entry in db["Health"]["Log"] if entry["ExitCode"] == 0)
    assert web["StartedAt"] > first["Start"]


def test_a_service_waits_for_one_that_completes(project: Any) -> None:
    setup = {"image": "busybox", "command": ["sh", "-c", "sleep 1; echo done > /data/done"], "volumes": ["data:/data"]}
    app = project(
        {
            "setup": setup,
            "web": {
                "image": "busybox", "volumes": ["data:/data"],
                "command": ["sh", "-c", "cat /data/done; exec sleep 1000"],
                "init": True, "depends_on": {"setup": {"condition": "service_completed_successfully"}},
            },
        },
        volumes={"data": {}},
    )  # fmt: skip
    app("up", "-d")
    until(lambda: "done" in app.out("logs", "web"))


def test_an_unhealthy_dependency_fails_the_up(project: Any) -> None:
    check = {"test": ["CMD", "false"], "interval": "0.2s", "timeout": "5s", "retries": 2}
    app = project(
        {
            "db": {**SLEEP, "healthcheck": check},
            "web": {**SLEEP, "depends_on": {"db": {"condition": "service_healthy"}}},
        }
    )
    answer = app("up", "-d", check=False)
    assert answer.returncode != 0
    assert "unhealthy" in answer.stderr + answer.stdout or "Encountered errors" in answer.stderr
    assert app.ids("web") == []


@since(2)
def test_up_wait(project: Any) -> None:
    check = {"test": "test -e /ready", "interval": "0.3s", "timeout": "5s", "retries": 50}
    slow = {"image": "busybox", "command": ["sh", "-c", "sleep 1; touch /ready; exec sleep 1000"], "init": True}
    app = project({"web": {**slow, "healthcheck": check}})
    app("up", "-d", "--wait")
    assert app.container("web")["State"]["Health"]["Status"] == "healthy"


def test_networks_with_aliases_and_addresses(project: Any) -> None:
    app = project(
        {
            "web": {
                **SLEEP,
                "networks": {"front": {"aliases": ["www", "shop"]}, "back": {"ipv4_address": "10.214.7.9"}},
            },
            "db": {**SLEEP, "networks": {"back": {"ipv4_address": "10.214.7.10"}}},
            "proxy": {**SLEEP, "networks": ["front"]},
        },
        networks={"front": {}, "back": {"ipam": {"config": [{"subnet": "10.214.7.0/24"}]}}},
    )  # fmt: skip
    app("up", "-d")
    web = app.container("web")["NetworkSettings"]["Networks"]
    assert web["app_back"]["IPAddress"] == "10.214.7.9"
    assert {"www", "shop", "web"} <= set(web["app_front"]["DNSNames"])
    for service, name in (("proxy", "www"), ("proxy", "shop"), ("proxy", "web"), ("web", "db"), ("db", "web")):
        assert app("exec", "-T", service, "ping", "-c1", "-W2", name, check=False).returncode == 0, (service, name)
    assert app("exec", "-T", "proxy", "ping", "-c1", "-W1", "10.214.7.10", check=False).returncode != 0
    assert app("exec", "-T", "proxy", "nslookup", "db", "127.0.0.11", check=False).returncode != 0


def test_scaled_services_are_found_by_one_name(project: Any) -> None:
    app = project({"web": SLEEP, "client": SLEEP})
    app("up", "-d", "--scale", "web=2")
    answer = app.out("exec", "-T", "client", "nslookup", "web", "127.0.0.11").partition("Name:")[2]
    addresses = {app.inspect(one)["NetworkSettings"]["Networks"]["app_default"]["IPAddress"] for one in app.ids("web")}
    assert len(addresses) == 2
    assert all(address in answer for address in addresses)


def test_external_network_and_volume(project: Any, stack: Any) -> None:
    stack.docker("network", "create", "shared")
    stack.docker("volume", "create", "kept")
    app = project(
        {"web": {**SLEEP, "networks": ["out"], "volumes": ["data:/data"]}},
        networks={"out": {"external": True, "name": "shared"}},
        volumes={"data": {"external": True, "name": "kept"}},
    )
    try:
        app("up", "-d")
        assert list(app.container("web")["NetworkSettings"]["Networks"]) == ["shared"]
        app.down()
        assert stack.out("volume", "ls", "-q") == "kept"
        assert "shared" in stack.out("network", "ls", "--format", "{{.Name}}")
    finally:
        app.down()
        stack.docker("network", "rm", "shared")


def test_other_network_modes(project: Any) -> None:
    app = project(
        {
            "alone": {**SLEEP, "network_mode": "none"},
            "host": {**SLEEP, "network_mode": "host"},
            "web": SLEEP,
            "side": {**SLEEP, "network_mode": "service:web", "depends_on": ["web"]},
        }
    )
    app("up", "-d")
    assert app.container("side")["HostConfig"]["NetworkMode"] == f"container:{app.ids('web')[0]}"
    assert app.out("exec", "-T", "side", "hostname", "-i") == app.out("exec", "-T", "web", "hostname", "-i")
    assert "eth0" not in app.out("exec", "-T", "alone", "ls", "/sys/class/net")


def test_published_ports(project: Any) -> None:
    app = project({"web": {**HTTPD, "ports": ["127.0.0.1:18080:80", "18082:80"]}, "some": {**HTTPD, "ports": ["80"]}})
    app("up", "-d", "--scale", "some=2")
    published = [app.inspect(one)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"] for one in app.ids("some")]
    assert len(set(published)) == 2
    for port in ("18080", "18082", *published):
        assert until(lambda port=port: fetch(app, port)) == "served\n", port


def fetch(app: Any, port: str) -> str:
    """Ask a port of the stack's loopback for a page."""
    url = f"http://127.0.0.1:{port}/"
    script = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode(), end='')"
    return str(
        subprocess.run(
            ["nsenter", "--net", "--target", str(app.stack.process.pid), "python3", "-c", script, url],
            capture_output=True, text=True, check=False, timeout=30,
        ).stdout
    )  # fmt: skip


def test_named_volumes_outlive_down(project: Any, stack: Any) -> None:
    app = project(
        {"web": {**SLEEP, "volumes": ["data:/data", {"type": "tmpfs", "target": "/scratch"}, "./etc:/conf:ro"]}},
        volumes={"data": {"labels": {"a": "b"}}},
    )
    (app.directory / "etc").mkdir()
    app.file("etc/x", "bound\n")
    app("up", "-d")
    assert (
        app.out(
            "exec", "-T", "web", "sh", "-c", "echo kept > /data/a; cat /conf/x; grep -c ' /scratch tmpfs' /proc/mounts"
        )
        == "bound\n1"
    )
    assert app("exec", "-T", "web", "touch", "/conf/y", check=False).returncode != 0
    app("down", "--timeout", "0")
    assert stack.out("volume", "ls", "-q", "--filter", "label=a=b") == "app_data"
    app("up", "-d")
    assert app.out("exec", "-T", "web", "cat", "/data/a") == "kept"


def test_secrets_and_configs(project: Any) -> None:
    service: dict[str, Any] = {**SLEEP, "secrets": ["token", {"source": "token", "target": "other"}]}
    top: dict[str, Any] = {"secrets": {"token": {"file": "./token.txt"}}}
    app = project(service_of(service), **top)
    app.file("token.txt", "s3cret\n")
    if major(app.program) > 1:
        service["configs"] = [
            {"source": "conf", "target": "/etc/app.conf"},
            {"source": "inline", "target": "/etc/inline", "mode": 0o440, "uid": "3"},
        ]
        service["secrets"].append("fromenv")
        top["configs"] = {"conf": {"file": "./app.conf"}, "inline": {"content": "a=${WHO}\n"}}
        top["secrets"]["fromenv"] = {"environment": "SECRET"}
        app.file("app.conf", "key=value\n")
        app.write(service_of(service), **top)
    environ = {"WHO": "me", "SECRET": "from the environment"}
    app("up", "-d", environ=environ)
    assert (
        app.out("exec", "-T", "web", "cat", "/run/secrets/token", "/run/secrets/other", environ=environ)
        == "s3cret\ns3cret"
    )
    if major(app.program) > 1:
        assert (
            app.out("exec", "-T", "web", "cat", "/etc/app.conf", "/etc/inline", "/run/secrets/fromenv", environ=environ)
            == "key=value\na=me\nfrom the environment"
        )
        assert app.out("exec", "-T", "web", "stat", "-c", "%a %u", "/etc/inline", environ=environ) == "440 3"


def service_of(service: dict[str, Any]) -> dict[str, Any]:
    return {"web": service}


def test_profiles(project: Any) -> None:
    app = project({"web": SLEEP, "debug": {**SLEEP, "profiles": ["debug"]}})
    app("up", "-d")
    assert app.ids("debug") == []
    app("--profile", "debug", "up", "-d")
    assert len(app.ids("debug")) == 1
    app("--profile", "debug", "down", "--timeout", "0")
    assert app.ids(all_=True) == []


def test_run(project: Any) -> None:
    app = project({"db": SLEEP, "web": {**SLEEP, "depends_on": ["db"], "environment": {"A": "service"}}})
    answer = app(
        "run",
        "--rm",
        "-T",
        "-e",
        "B=given",
        "web",
        "sh",
        "-c",
        "echo $A $B; ping -c1 -W2 db >/dev/null && echo found; exit 4",
        check=False,
    )
    assert answer.returncode == 4, answer.stderr
    assert answer.stdout.split() == ["service", "given", "found"]
    assert len(app.ids(all_=True)) == 1  # the db it depends on
    read = app("run", "--rm", "-T", "--no-deps", "web", "cat", input="through stdin\n")
    assert read.stdout == "through stdin\n"
    app("run", "-d", "--name", "one-off", "web", "sleep", "1000")
    assert app.inspect("one-off")["Config"]["Labels"]["com.docker.compose.oneoff"] == "True"


@since(2)
def test_cp(project: Any) -> None:
    app = project({"web": SLEEP})
    app("up", "-d")
    app.file("here", "copied\n")
    app("cp", "here", "web:/tmp/there")
    assert app.out("exec", "-T", "web", "cat", "/tmp/there") == "copied"
    app("cp", "web:/tmp/there", "back")
    assert (app.directory / "back").read_text() == "copied\n"
    app("cp", "web:/etc", "etc")
    assert (app.directory / "etc" / "passwd").is_file()


def test_limits_and_the_rest_of_a_service(project: Any) -> None:
    app = project(
        {
            "web": {
                **SLEEP, "hostname": "box", "domainname": "example.test", "user": "3:4", "working_dir": "/tmp",
                "read_only": True, "tmpfs": ["/run:size=1m"], "cap_drop": ["ALL"], "cap_add": ["CHOWN"],
                "security_opt": ["no-new-privileges:true"], "sysctls": {"net.core.somaxconn": 77},
                "ulimits": {"nofile": {"soft": 100, "hard": 200}}, "extra_hosts": ["there:10.9.8.7"],
                "dns": ["10.1.1.1"], "dns_search": ["example.test"], "labels": {"a.b": "c"}, "shm_size": "32mb",
                "stop_signal": "SIGUSR1", "stop_grace_period": "3s", "pid": "host", "ipc": "shareable",
                "logging": {"driver": "json-file", "options": {"max-size": "1m", "labels": "a.b"}},
                "deploy": {"resources": {"limits": {"cpus": "0.5", "memory": "64M"}}},
                "environment": {"A": "b"}, "expose": ["99"], "tty": True, "stdin_open": True,
            }
        }
    )  # fmt: skip
    app("--compatibility", "up", "-d")
    got, host = app.container("web")["Config"], app.container("web")["HostConfig"]
    assert (got["Hostname"], got["Domainname"], got["User"], got["WorkingDir"]) == (
        "box",
        "example.test",
        "3:4",
        "/tmp",
    )
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["ShmSize"]) == (True, ["ALL"], 32 << 20)
    assert (host["NanoCpus"], host["Memory"], host["IpcMode"]) == (500_000_000, 64 << 20, "shareable")
    assert (got["StopSignal"], got["StopTimeout"], got["Tty"]) == ("SIGUSR1", 3, True)
    assert (
        app.out("exec", "-T", "web", "sh", "-c", "ulimit -n; cat /proc/sys/net/core/somaxconn; pwd; id -u")
        == "100\n77\n/tmp\n3"
    )
    assert "10.9.8.7\tthere" in app.out("exec", "-T", "web", "cat", "/etc/hosts")
