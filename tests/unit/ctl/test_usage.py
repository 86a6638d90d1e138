"""`dockyard job NAME --help`: what it shows is what `build_job` takes."""

from __future__ import annotations

import pytest

from services.ctl.inject import build_job
from services.ctl.shapes import comments, fields_of, normal, settings_of
from services.ctl.usage import NOBODY, holder, job_list, job_usage
from shared.protocol import JobNotFound, ServiceStatus, StopContainer, catalogue
from tests.unit.ctl.golden import assert_golden

SERVICES = [
    ServiceStatus(service="engine", pid=2, ready=True, names=[], silent=0.0),
    ServiceStatus(service="apiserver", pid=3, ready=True, names=["serveapi"], silent=0.0),
    ServiceStatus(service="apiserver", pid=4, ready=True, names=["serveapi"], silent=0.0),
]


@pytest.mark.parametrize("name", ["create", "stop", "load", "wait", "image_export", "ping"])
def test_the_help_of_a_job(name: str) -> None:
    assert_golden(f"job-{name}.txt", job_usage(name, "engine[7]") + "\n")


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_every_job_has_a_help_that_names_all_its_fields(name: str) -> None:
    shown = job_usage(name, "engine[7]").splitlines()
    words = {line.split()[0] for line in shown if line.startswith("  ") and line.strip()}
    for field in fields_of(catalogue()[name]):
        assert words & {field.encode_name, field.name.upper()}
    assert shown[-1] == "Held by: engine[7]"


def test_a_setting_that_is_shown_is_one_that_is_taken() -> None:
    shown = job_usage("create", "").partition("Settings")[2].partition("Result")[0]
    for key, value in (("Image", "x"), ("Test", '["CMD"]'), ("Memory", "7"), ("MaximumRetryCount", "3")):
        assert f" {key} " in shown
        build_job("create", [], [f"{key}={value}"])
    assert build_job("create", [], ["Test=[]"]).config.healthcheck.test == []  # type: ignore[attr-defined]
    assert " Name " not in shown  # it is the job's own name, not RestartPolicy's


def test_each_key_means_one_setting() -> None:
    keys = [normal(path[-1].encode_name) for path in settings_of(fields_of(catalogue()["create"]))]
    assert keys.index("name") == 0
    assert keys.count("name") > 1  # RestartPolicy has one too: it is reached as RestartPolicy={"Name": …}
    made = build_job("create", [], ['RestartPolicy={"Name":"always"}'])
    assert made.host_config.restart_policy.name == "always"  # type: ignore[attr-defined]


def test_the_list_has_every_job() -> None:
    listed = [line.split()[0] for line in job_list().splitlines()[1:]]
    assert listed == sorted(catalogue())


def test_units_are_told_where_the_type_tells_them() -> None:
    assert comments(StopContainer)["timeout"].startswith("seconds; ")


def test_who_holds_a_job() -> None:
    assert holder("serveapi", ["serveapi", "stop"], SERVICES) == "apiserver[3], apiserver[4]"
    assert holder("stop", ["serveapi", "stop"], SERVICES) == "engine[2]"
    assert holder("build", ["serveapi", "stop"], SERVICES) == "no process at present"


def test_an_unknown_job_has_none() -> None:
    with pytest.raises(JobNotFound, match="nonesuch: command not found"):
        job_usage("nonesuch", NOBODY)


def test_a_job_of_somebody_elses_driver_has_one() -> None:
    shown = job_usage("nonesuch", "greeter[7]")
    assert shown.startswith("Usage: dockyard job nonesuch [--env KEY=VALUE]…")
    assert shown.endswith("Held by: greeter[7]")
