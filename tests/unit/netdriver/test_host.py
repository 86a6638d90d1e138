"""The host's switches, on a directory that stands in for /proc/sys/net."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.netdriver import host


def test_forwarding_is_turned_on_though_a_link_goes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "SYSCTL", tmp_path)
    conf = tmp_path / "ipv6/conf"
    for name, accepts in (("all", "1"), ("default", "1"), ("eth0", "1"), ("eth1", "0")):
        (conf / name).mkdir(parents=True)
        (conf / name / "accept_ra").write_text(f"{accepts}\n")
    (conf / "all/forwarding").write_text("0\n")
    (conf / "gone").mkdir()
    host._forward_ipv6()
    found = {path.parent.name: path.read_text().strip() for path in conf.glob("*/accept_ra")}
    assert found == {"all": "1", "default": "2", "eth0": "2", "eth1": "0"}
    assert (conf / "all/forwarding").read_text() == "1"
