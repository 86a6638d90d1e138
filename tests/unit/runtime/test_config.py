from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.runtime.config import Config, ConfigError
from shared.runtime.loading import load_config, load_leniently, to_environ
from shared.runtime.logs.options import parse_options


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_flag_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = write(tmp_path / "d.toml", 'bridge = "f0"\nmtu = 1400\ngroup = "f"\n')
    config = load_config({"bridge": "flag0", "mtu": None}, {"DOCKYARD_MTU": "1300", "DOCKYARD_BRIDGE": "e0"}, file)
    assert (config.bridge, config.mtu, config.group, config.ip) == ("flag0", 1300, "f", "0.0.0.0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 1", "unknown key: colour"),
        ("listen-fds = [3]", "unknown key: listen-fds"),
        ('mtu = "wide"', "mtu: "),
        ("mtu = true", "mtu: a number is wanted"),
        ("mtu = 60", "mtu: 60 is not from 68 to 65535 bytes"),
        ("shutdown-timeout = -1", "shutdown-timeout: "),
        ("bridge = 7", "bridge: a string is wanted, not int"),
        (f'run = "/{"r" * 87}"', f"run: /{'r' * 87} is longer than 87 bytes"),
        ("debug = 1", "debug: true or false is wanted, not 1"),
        ('bridge = "sixteen-letters0"', "bridge: 'sixteen-letters0' is not the name of a bridge: 15 bytes at most"),
        ('bridge = "a b"', "bridge: 'a b' is not the name of a bridge"),
        ('bridge = ".."', "bridge: '..' is not the name of a bridge"),
        ('root = ""', "root: a path is wanted"),
        ('bip = "300.1.1.1/8"', "bip: "),
        ('bip = "10.1.0.0/16"', "bip: '10.1.0.0/16' is not the address of a bridge"),
        ('fixed-cidr = "10.1.0.1/16"', "fixed-cidr: "),
        ('fixed-cidr = "10.1.0.1"', "fixed-cidr: '10.1.0.1' is not a network"),
        ('ip = "::1"', "ip: "),
        ('dns = ["nowhere"]', "dns: 'nowhere' does not appear to be an IPv4 or IPv6 address"),
        ("dns = 7", "dns: a list is wanted, not int"),
        ('dns-search = ["-bad-.example"]', "dns-search: -bad-.example is not a valid domain"),
        ('dns-search = ["10.1"]', "dns-search: 10.1 is not a valid domain"),
        ('icc = "perhaps"', "icc: true or false is wanted, not 'perhaps'"),
        ('storage-driver = "aufs"', "storage-driver: 'aufs' is none of overlay, vfs"),
        ('storage-opt = ["dm.basesize=20G"]', "storage-opt: unknown option dm.basesize"),
        ('storage-opt = ["overlay.index=maybe"]', "storage-opt: overlay.index is one of on, off, not 'maybe'"),
        ('registry-mirrors = ["ftp://mirror"]', "registry-mirrors: 'ftp://mirror': unsupported scheme 'ftp'"),
        ('registry-mirrors = ["http://mirror/v1"]', "unsupported path/query/fragment at end of the URI"),
        ('registry-mirrors = ["http://mirror?x=1"]', "unsupported path/query/fragment at end of the URI"),
        ('registry-mirrors = ["http://mirror:99999"]', "registry-mirrors: "),
        ('insecure-registries = ["http://box"]', "insecure registry http://box should not contain '://'"),
        ('insecure-registries = ["10.0.0.1/8"]', "insecure-registries: "),
        ("max-concurrent-downloads = -1", "max-concurrent-downloads: -1 is less than 0"),
        ('search-index = "index"', "search-index: 'index': unsupported scheme ''"),
        ('cors = ["example.com"]', "cors: 'example.com' is not an origin"),
        ('context = ["colour:red"]', "context: 'colour:red' is not an SELinux label option"),
        ('log-driver = "syslog"', "log-driver: logger: no log driver named 'syslog' is registered"),
        ('log-opts = ["colour=red"]', "log-opts: unknown log opt 'colour' for json-file log driver"),
        ('log-opts = ["max-size"]', "log-opts: 'max-size' is not NAME=VALUE"),
        ('log-driver = "local"\nlog-opts = ["labels=a,b"]', "log-opts: unknown log opt 'labels' for log driver local"),
        (
            'log-driver = "journald"\nlog-opt = ["mode=non-blocking"]',
            "log-opts: log opt 'mode=non-blocking' is not implemented for journald",
        ),
        ("firewall = false\niptables = true", "firewall and iptables are one setting"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config({}, {}, write(tmp_path / "d.toml", text))


def test_what_the_checks_let_pass() -> None:
    given = {
        "dns": ["192.0.2.1", "2001:db8::1"],
        "dns-search": [".", "corp.example.", "a"],
        "registry-mirrors": "https://mirror.example:5000/,http://10.0.0.1",
        "insecure-registries": ["box:5000", "10.0.0.0/8", "[::1]:5000"],
        "cors": ["https://ui.example:8443", "*"],
        "fixed_cidr": "10.1.2.0/24",
        "bip": "10.1.0.1/16",
    }
    config = load_config(given, {})
    assert config.insecure_registries == ("box:5000", "10.0.0.0/8", "[::1]:5000")
    assert config.registry_mirrors == ("https://mirror.example:5000/", "http://10.0.0.1")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bridge": "none", "bip": "10.1.0.1/16"}, "--bridge=none & --bip"),
        ({"iptables": False, "icc": False}, "--firewall=false with --icc=false"),
        ({"firewall": "false", "ip-masq": "true"}, "--firewall=false with --ip-masq=true"),
        ({"bridge": "none", "fixed-cidr": "10.1.0.0/24"}, "--bridge=none & --fixed-cidr"),
        ({"bip": "10.2.0.1/16", "fixed-cidr": "10.1.0.0/24"}, "not inside the network of --bip"),
        ({"storage-driver": "vfs", "storage-opt": "overlay.index=on"}, "--storage-driver=vfs"),
    ],
)
def test_contradictions_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_config(given, {})
    assert "\n" not in str(caught.value)


def test_what_follows_from_a_setting_contradicts_nothing() -> None:
    config = load_config({"firewall": False, "storage_opt": ["overlay.index=off"]}, {})
    assert (config.ip_masq, config.storage_driver) == (False, "overlay")
    assert load_config({}, to_environ(config)) == config


def test_the_names_of_2014_and_both_spellings_are_taken_everywhere(tmp_path: Path) -> None:
    file = write(
        tmp_path / "d.toml", 'graph = "/g"\nip-forward = false\nip_masq = false\nregistry-mirror = ["http://m"]'
    )
    config = load_config({"host": ["unix:///x"]}, {"DOCKYARD_IPTABLES": "0", "DOCKYARD_API_ENABLE_CORS": "1"}, file)
    assert (config.root, config.ip_forward, config.ip_masq, config.firewall) == (Path("/g"), False, False, False)
    assert (config.hosts, config.registry_mirrors, config.origins) == (("unix:///x",), ("http://m",), ("*",))


def test_a_variable_that_is_no_setting_is_an_error() -> None:
    with pytest.raises(ConfigError, match="unknown key: DOCKYARD_BRIGDE"):
        load_config({}, {"DOCKYARD_BRIGDE": "x"})


def test_broken_toml_and_a_named_file_that_is_missing_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_config({}, {}, write(tmp_path / "d.toml", "= ="))
    with pytest.raises(ConfigError, match="no such file"):
        load_config({}, {"DOCKYARD_CONFIG": str(tmp_path / "none.toml")})


@pytest.mark.parametrize(
    ("text", "wrong", "run"),
    [
        ('run = "/r"', "", "/r"),
        ('colour = "blue"\nmtu = "wide"\nrun = "/r"', "unknown key: colour", "/r"),
        ('run = "/r"\nfirewall = false\nicc = false', "You specified --firewall=false with --icc=false.", "/r"),
        ("no toml", "Expected '='", "/run/dockyard"),
    ],
)
def test_a_stack_that_runs_is_found_whatever_the_file_says(tmp_path: Path, text: str, wrong: str, run: str) -> None:
    environ = {"DOCKYARD_CONFIG": str(write(tmp_path / "d.toml", text)), "DOCKYARD_GROUP": "e"}
    config, said = load_leniently({"bridge": "flag0"}, environ)
    assert (str(config.run), config.group, config.bridge) == (run, "e", "flag0")
    assert wrong in said
    assert bool(wrong) == bool(said)


def test_but_what_is_typed_in_must_be_right(tmp_path: Path) -> None:
    environ = {"DOCKYARD_CONFIG": str(write(tmp_path / "d.toml", "colour = 1"))}
    with pytest.raises(ConfigError, match="mtu: "):
        load_leniently({"mtu": "wide"}, environ)
    with pytest.raises(ConfigError, match="unknown key: DOCKYARD_COLOUR"):
        load_leniently({}, {**environ, "DOCKYARD_COLOUR": "1"})


def test_settings_reach_a_child_through_its_environment() -> None:
    config = Config(root=Path("/a"), dns=("192.0.2.1", "192.0.2.2"), icc=False, mtu=1400, group="", listen_fds=(3, 4))
    assert load_config({}, to_environ(config)) == config


def test_a_child_does_not_read_the_file_again(tmp_path: Path) -> None:
    """What the file says may have changed, and flags may have set a default that it does not have."""
    file = write(tmp_path / "d.toml", "mtu = 1400\nicc = false")
    environ = {"DOCKYARD_CONFIG": str(file)}
    config = load_config({"mtu": 0, "icc": True}, environ)
    assert load_config({}, environ | to_environ(config)) == config == Config()


def test_log_options_reach_the_processes_as_they_were_given(tmp_path: Path) -> None:
    config = load_config({}, {}, write(tmp_path / "d.toml", 'log-opts = ["max-size=1m", "labels=a,b"]'))
    assert parse_options(load_config({}, to_environ(config)).log_opts) == {"max-size": "1m", "labels": "a,b"}
