from __future__ import annotations

from services.netdriver.handlers import jobs
from shared.protocol import (
    AllocateInterface,
    AllocatePort,
    InitNetworkDriver,
    LinkContainers,
    ListDenials,
    ListInterfaces,
    MakeNetwork,
    ReleaseInterface,
    UnmakeNetwork,
    job_name,
)


def test_every_job_of_the_netdriver_has_its_handler() -> None:
    kinds = (
        AllocateInterface,
        AllocatePort,
        InitNetworkDriver,
        LinkContainers,
        ListDenials,
        ListInterfaces,
        MakeNetwork,
        ReleaseInterface,
        UnmakeNetwork,
    )
    assert set(jobs) == {job_name(kind) for kind in kinds}
