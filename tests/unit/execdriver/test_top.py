"""What ps prints, cut down to a container's processes."""

from __future__ import annotations

import os

import pytest

from services.execdriver.top import list_processes, parse
from shared.protocol import InvalidArgument

PS = """UID          PID    PPID  C STIME TTY          TIME CMD
root          12       1  0 00:00 ?        00:00:00 sh -c while :;  do :; done
root          13      12  0 00:00 ?        00:00:00 sleep 1
nobody       112       1  0 00:00 ?        00:00:00 not ours
"""


def test_rows_of_other_processes_are_left_out() -> None:
    found = parse(PS, {12, 13})
    assert found.titles == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert [row[1] for row in found.processes] == ["12", "13"]
    assert found.processes[0][-1] == "sh -c while :;  do :; done"


def test_threads_belong_to_the_process_before_them() -> None:
    text = "PID LWP COMMAND\n12 - sh\n- 12 -\n99 - other\n- 99 -\n"
    assert parse(text, {12}).processes == [["12", "-", "sh"], ["-", "12", "-"]]


def test_the_name_of_a_process_makes_no_rows_and_no_columns() -> None:
    text = "PID COMMAND\n12 a\u2028 99\u00a0b\x0bc\n"
    assert parse(text, {12}).processes == [["12", "a\u2028 99\u00a0b\x0bc"]]


@pytest.mark.parametrize(
    ("ps_args", "why"),
    [
        ("-o comm", "Couldn't find PID field in ps output"),
        ("-o ppid=PID", 'specifying "ppid=PID" is not allowed'),
        ("-ef -o uid= PID", "is not allowed"),
        ("--nonsense", "ps: "),
    ],
)
def test_what_ps_cannot_say_is_refused(ps_args: str, why: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        list_processes({os.getpid()}, ps_args)
    assert why in str(caught.value)


@pytest.mark.parametrize("ps_args", ["", "-ef", "aux", "axf -o pid,comm"])
def test_ps_itself(ps_args: str) -> None:
    found = list_processes({os.getpid()}, ps_args)
    (row,) = found.processes
    assert row[found.titles.index("PID")] == str(os.getpid())


def test_a_nul_is_the_callers_mistake() -> None:
    with pytest.raises(InvalidArgument, match="NUL"):
        list_processes([1], "-e\0f")
