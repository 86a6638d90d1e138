"""Log drivers' options, in Docker's words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.logs.options import (
    LogLimits,
    Unsupported,
    check_options,
    limits_of,
    parse_options,
    parse_size,
)


@pytest.mark.parametrize(
    ("driver", "options", "error"),
    [
        ("fluentd", {}, "logger: no log driver named 'fluentd' is registered"),
        ("json-file", {"colour": "red"}, "unknown log opt 'colour' for json-file log driver"),
        ("local", {"tag": "x"}, "unknown log opt 'tag' for log driver local"),
        ("journald", {"max-size": "1m"}, "unknown log opt 'max-size' for journald log driver"),
        ("json-file", {"max-size": "ten"}, "invalid size: 'ten'"),
        ("json-file", {"max-size": ""}, "invalid size: ''"),
        ("json-file", {"max-size": "0"}, "max-size must be a positive number"),
        ("json-file", {"max-file": "0"}, "max-file cannot be less than 1"),
        ("json-file", {"max-file": "1.5"}, 'strconv.Atoi: parsing "1.5": invalid syntax'),
        ("json-file", {"compress": "yes"}, 'strconv.ParseBool: parsing "yes": invalid syntax'),
        ("local", {"max-file": "1", "compress": "true"}, "compression cannot be enabled when max file count is 1"),
        (
            "json-file",
            {"max-size": "1m", "compress": "true"},
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ),
        ("json-file", {"mode": "fast"}, "logger: logging mode not supported: fast"),
        (
            "json-file",
            {"max-buffer-size": "1m"},
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
        (
            "json-file",
            {"mode": "non-blocking", "max-buffer-size": "x"},
            "error parsing option max-buffer-size: invalid size: 'x'",
        ),
        ("json-file", {"labels-regex": "("}, "error parsing regexp: "),
    ],
)
def test_what_docker_refuses(driver: str, options: dict[str, str], error: str) -> None:
    with pytest.raises(ValueError, match=re.escape(error)) as caught:
        check_options(driver, options)
    assert str(caught.value).startswith(error)
    assert not isinstance(caught.value, Unsupported)


@pytest.mark.parametrize(
    ("driver", "options", "name"),
    [
        ("journald", {"mode": "non-blocking"}, "mode=non-blocking"),
        ("journald", {"labels": "a"}, "labels"),
        ("json-file", {"tag": "{{.ContainerLabels}}"}, ".ContainerLabels"),
    ],
)
def test_what_dockyard_alone_lacks_is_named(driver: str, options: dict[str, str], name: str) -> None:
    with pytest.raises(Unsupported, match="is not implemented") as caught:
        check_options(driver, options)
    assert name in str(caught.value)


def test_what_is_accepted() -> None:
    check_options("none", {"anything": "goes"})
    check_options("journald", {"tag": "{{.Name}}/{{ .ID }}"})
    check_options("local", {"max-size": "10m", "max-file": "2", "compress": "false", "mode": "blocking"})
    check_options(
        "json-file",
        {"max-size": "1g", "max-file": "2", "compress": "t", "labels": "a,b", "labels-regex": "^x", "env": "A",
         "env-regex": "B$", "tag": "{{.ImageName}}", "mode": "blocking"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("driver", "options", "limits"),
    [
        ("json-file", {}, LogLimits(20_000_000, 5, False)),
        ("json-file", {"max-size": "10k"}, LogLimits(10_000, 1, False)),
        ("json-file", {"max-size": "10k", "max-file": "3", "compress": "true"}, LogLimits(10_000, 3, True)),
        ("json-file", {"max-file": "2"}, LogLimits(20_000_000, 2, False)),
        ("local", {}, LogLimits(20_000_000, 5, True)),
        ("local", {"max-file": "1"}, LogLimits(20_000_000, 1, False)),
    ],
)
def test_what_is_kept(driver: str, options: dict[str, str], limits: LogLimits) -> None:
    assert limits_of(driver, options) == limits


@pytest.mark.parametrize(
    ("text", "size"), [("10m", 10_000_000), ("1.5 KB", 1500), ("2GiB", 2_000_000_000), ("7", 7), ("1b", 1)]
)
def test_sizes_are_go_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@given(st.text(max_size=8))
def test_a_size_is_a_number_or_an_error(text: str) -> None:
    try:
        assert parse_size(text) >= 0
    except ValueError as error:
        assert str(error) == f"invalid size: '{text}'"


def test_a_value_may_have_commas() -> None:
    assert parse_options(["max-size=1m", "labels=a", "b", "env=X"]) == {"max-size": "1m", "labels": "a,b", "env": "X"}
    with pytest.raises(ValueError, match="'b' is not NAME=VALUE"):
        parse_options(["b"])
