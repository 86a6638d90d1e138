from __future__ import annotations

from services.ctl.table import Layout, lines

HEADER = ("ID", "JOB", "STATUS")
LONG = "a" * 40 + "z"


def test_where_there_is_no_terminal_nothing_is_cut_wrapped_or_padded() -> None:
    assert lines(HEADER, [("1", LONG, "b" * 200), ("22", "x", "")]) == [
        f"ID  JOB{' ' * 38}  STATUS",
        f"1   {LONG}  {'b' * 200}",
        "22  x",
    ]


def test_on_a_terminal_one_column_gives_way_and_the_line_fits() -> None:
    made = lines(HEADER, [("1", LONG, "running")], Layout(40, gives_way=1))
    assert made == [f"ID  JOB{' ' * 24}  STATUS", f"1   {'a' * 26}…  running"]
    assert max(map(len, made)) == 40


def test_a_last_cell_without_room_has_a_line_of_its_own() -> None:
    made = lines(
        HEADER, [("1", "kill(web)", "1 " + "e" * 30), ("2", "ping()", "0")], Layout(40, gives_way=1, spill=True)
    )
    assert made[1:] == ["1   kill(web)", f"    1 {'e' * 30}", "2   ping()     0"]


def test_control_characters_are_shown_and_not_obeyed() -> None:
    assert lines(("A",), [("\x1b[2Jx\ny",)])[1] == "\\x1b[2Jx\\ny"


def test_wide_characters_take_two_cells() -> None:
    assert lines(("A", "B"), [("漢字", "x"), ("abcde", "y")]) == ["A      B", "漢字   x", "abcde  y"]


def test_ids_are_whole_but_on_a_terminal() -> None:
    job, container = "1f" * 16, "2e" * 32
    row = (job, f"start({container})", f"No such container: {container}")
    assert lines(HEADER, [row])[1].split() == [job, f"start({container})", "No", "such", "container:", container]
    assert lines(HEADER, [row], Layout(120))[1].split() == [
        job[:12], f"start({container[:12]})", "No", "such", "container:", container[:12],
    ]  # fmt: skip
