from __future__ import annotations

from pathlib import Path

import pytest

from services.netdriver.leases import Lease, Leases
from shared.protocol import Interface

LEASE = Lease(container="c0ffee", generation=3, interface=Interface(mode="none", netns="/x"))


def test_a_lease_outlives_the_process(tmp_path: Path) -> None:
    Leases(tmp_path / "leases").put(LEASE)
    again = Leases(tmp_path / "leases")
    assert again.get("c0ffee") == LEASE
    again.drop(LEASE)
    again.drop(LEASE)
    assert Leases(tmp_path / "leases").all() == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"container": "c0ffee"}', b"\xff"])
def test_a_damaged_lease_is_dropped(tmp_path: Path, content: bytes) -> None:
    Leases(tmp_path).put(LEASE)
    (tmp_path / "bad.json").write_bytes(content)
    (tmp_path / "half.new").write_bytes(b'{"conta')
    assert Leases(tmp_path).all() == [LEASE]
    assert [path.name for path in tmp_path.iterdir()] == ["c0ffee.json"]
