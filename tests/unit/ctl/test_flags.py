"""`dockyard up`: a flag for every setting, none beside them, and the 2014 daemon's spellings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from services.ctl.flags import UpCommand, up_command
from shared.runtime.config import SETTINGS, Config
from shared.runtime.settings import to_text

FLAGS_2014 = """
-p --pidfile -g --graph -r --restart --iptables --ip-forward --ip-masq --bip -b --bridge --fixed-cidr --icc
-s --storage-driver -e --exec-driver --selinux-enabled --mtu --ip --storage-opt --dns --dns-search --registry-mirror
--insecure-registry -D --debug -G --group --api-enable-cors --tls --tlsverify --tlscacert --tlscert --tlskey -H --host
"""


seen: list[Config] = []


def note(config: Config, _ini: Path) -> int:
    seen.append(config)
    return 0


@pytest.fixture
def app() -> typer.Typer:
    seen.clear()
    made = typer.Typer()
    made.command("up", cls=UpCommand)(up_command({"run": "/before"}, note))
    made.command("other")(lambda: None)
    return made


def options(app: typer.Typer) -> dict[str, Any]:
    command: Any = typer.main.get_command(app)
    return {option.name: option for option in command.commands["up"].params}


def test_each_setting_has_its_flags_with_help_and_default(app: typer.Typer) -> None:
    found = options(app)
    assert set(found) == {*SETTINGS, "detach", "check", "config", "circus_ini"}
    for one in SETTINGS.values():
        option = found[one.name]
        wanted = {f"--{name.replace('_', '-')}" for name in (one.name, *one.also)}
        assert set(option.opts) == wanted | ({f"-{one.letter}"} if one.letter else set())
        assert one.help in option.help.replace("\\[", "[")
        assert not to_text(one.default) or f"[default: {to_text(one.default)}]" in option.help.replace("\\[", "[")


def test_every_flag_of_2014_is_there(app: typer.Typer) -> None:
    known = {spelling for option in options(app).values() for spelling in option.opts}
    assert set(FLAGS_2014.split()) <= known


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ([], {}),
        (["--icc=false", "--restart=true"], {"icc": False}),
        (["-r=false", "--no-ip-forward"], {"restart": False, "ip_forward": False}),
        (["--iptables=0"], {"firewall": False, "ip_masq": False}),
        (["--api-enable-cors", "-D"], {"api_enable_cors": True, "debug": True}),
        (["-H", "unix:///a", "--host", "unix:///b"], {"hosts": ("unix:///a", "unix:///b")}),
        (["--dns=192.0.2.1", "--dns", "192.0.2.2"], {"dns": ("192.0.2.1", "192.0.2.2")}),
        (["--group", "", "--mtu", "1400"], {"group": "", "mtu": 1400}),
    ],
)
def test_flags_become_settings(app: typer.Typer, args: list[str], wanted: dict[str, Any]) -> None:
    result = CliRunner(env={"DOCKYARD_CONFIG": "/dev/null"}).invoke(app, ["up", *args])
    assert result.exit_code == 0, result.output
    assert seen == [Config(run=Path("/before"), **wanted)]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--bip", "nowhere"], "dockyard: bip: "),
        (["--iptables=false", "--ip-masq=true"], "dockyard: You specified --firewall=false with --ip-masq=true."),
        (["--mtu", "wide"], "dockyard: mtu: "),
    ],
)
def test_a_flag_that_cannot_be_is_a_line_and_78(app: typer.Typer, args: list[str], message: str) -> None:
    result = CliRunner(env={"DOCKYARD_CONFIG": "/dev/null"}).invoke(app, ["up", *args])
    assert result.exit_code == 78
    assert result.stderr.startswith(message)
    assert len(result.stderr.splitlines()) == 1
