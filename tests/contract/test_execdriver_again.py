"""What the execdriver makes of what it is asked again: a start and a signal happen once; and of a runtime that dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from services.execdriver.bundle import Bundle
from services.execdriver.crun import Crun
from services.execdriver.sealed import SealedProgram
from shared.bus.context import Context, current
from shared.protocol import (
    DockyardError,
    Header,
    RuntimeKill,
    RuntimeList,
    RuntimeStart,
    RuntimeStarted,
    new_id,
)
from tests.contract.test_execdriver import Bench, bench, leftovers, shared_rootfs, until

pytestmark = pytest.mark.root
__all__ = ["bench", "shared_rootfs"]


@contextmanager
def again(name: str) -> Iterator[None]:
    token = current.set(Context(Header(id=new_id(), name=name, again=True), lambda output: None))
    try:
        yield
    finally:
        current.reset(token)


def test_a_start_that_is_asked_again_is_the_one_that_was_made(bench: Bench) -> None:
    job = bench.job("sleep", "60")
    first: RuntimeStarted = bench.do(job)
    with again("runtime_start"):
        assert bench.do(job) == first
        bench.driver = bench.new_driver()
        assert bench.do(job) == first


def test_also_if_its_process_has_ended_meanwhile(bench: Bench, tmp_path: Path) -> None:
    job = bench.job("sh", "-c", "echo once; exit 5")
    first: RuntimeStarted = bench.do(job)
    assert bench.exit_of(job.container).exit_code == 5
    with again("runtime_start"):
        assert bench.do(job).pid == first.pid
    log = Path(job.directory) / "container.log"
    assert log.read_text().count("once") == 1


def test_a_half_done_start_is_made_when_it_is_asked_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    class Died(BaseException):
        pass

    def die(self: Crun, container: str) -> None:
        raise Died

    job = bench.job("sleep", "60")
    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(Crun, "start", die)
        patch.setattr(type(bench.driver.containers), "_remove", lambda self, bundle: None)
        bench.do(job)
    bench.driver = bench.new_driver()
    with again("runtime_start"):
        assert bench.do(job).pid
    (entry,) = bench.do(RuntimeList())
    assert entry.exit_code is None


@pytest.mark.parametrize("when", ["before the runtime", "in the runtime"])
def test_a_start_that_goes_on_without_its_driver_is_not_made_twice(bench: Bench, tmp_path: Path, when: str) -> None:
    """A driver is killed while a container is made: its monitor and the runtime under that go on without it."""
    begun, real = tmp_path / "begun", bench.driver.containers._runtime_of("").path
    script = tmp_path / "crun"
    create = f'touch {begun}; sleep 1; exec "{real}" "$@"' if when == "in the runtime" else f'exec "{real}" "$@"'
    script.write_text(f'#!/bin/sh\nfor word; do [ "$word" = create ] && {{ {create}; }}; done\nexec "{real}" "$@"\n')
    script.chmod(0o755)
    job, lost = bench.job("sleep", "60"), bench.driver
    lost.containers._runtime_of("")._sealed = SealedProgram(str(script))
    lost.containers._remove = lambda bundle: None
    if when == "before the runtime":  # it is not let run until the new driver is there, and then it is
        lost.containers._placement.admit = lambda cgroup, pid: begun.touch() or time.sleep(1)
    threading.Thread(target=suppressed, args=(DockyardError, lambda: bench.do(job)), daemon=True).start()
    until(begun.exists)
    bundle = Bundle.of(bench.config.run, job.container)
    assert bundle.makers()
    bench.driver = bench.new_driver()
    assert bundle.makers() == []
    with again("runtime_start"):
        started = bench.do(job)
    time.sleep(1.5)  # by then it would have been made by the lost one too
    (entry,) = bench.do(RuntimeList())
    assert (entry.exit_code, entry.pid) == (None, started.pid)
    assert bundle.makers() == [started.monitor_pid]


def suppressed(kind: type[Exception], function: Callable[[], object]) -> None:
    with suppress(kind):
        function()


def counting(bench: Bench) -> tuple[RuntimeStart, Path]:
    job = bench.job("sh", "-c", "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done")
    bench.do(job)
    log = Path(job.directory) / "container.log"
    until(lambda: log.exists() and "ready" in log.read_text())
    return job, log


def test_a_signal_is_sent_once_for_a_job_whatever_dies_in_between(bench: Bench) -> None:
    job, log = counting(bench)
    asked = RuntimeKill(container=job.container, signal=10, once=new_id())
    bench.do(asked)
    until(lambda: log.read_text().count("usr1") == 1)
    bench.do(asked)
    bench.driver = bench.new_driver()
    bench.do(asked)
    time.sleep(0.3)
    assert log.read_text().count("usr1") == 1
    bench.do(RuntimeKill(container=job.container, signal=10, once=new_id()))
    until(lambda: log.read_text().count("usr1") == 2)


def test_of_a_signal_during_which_a_driver_died_nobody_knows(bench: Bench) -> None:
    job, log = counting(bench)
    asked = RuntimeKill(container=job.container, signal=10, once=new_id())
    bundle = Bundle.of(bench.config.run, job.container)
    (bundle.directory / "signals").write_text(f"{asked.once} 10 begun\n")
    with pytest.raises(DockyardError, match="it may have arrived"):
        bench.do(asked)
    assert "usr1" not in log.read_text()


@pytest.mark.parametrize("delay", [0.0, 0.004, 0.01])
def test_a_runtime_that_is_killed_in_the_middle_of_a_start_leaves_nothing(
    bench: Bench, tmp_path: Path, delay: float
) -> None:
    """The start fails, or works if it was quicker; the next one works."""
    script = tmp_path / "crun"
    real = bench.driver.containers._runtime_of("").path
    script.write_text(
        f'#!/bin/sh\nfor word; do [ "$word" = create ] && [ ! -e {tmp_path}/done ] && {{ touch {tmp_path}/done; '
        f'"{real}" "$@" & sleep {delay}; kill -9 $!; exit 137; }}; done\nexec "{real}" "$@"\n'
    )
    script.chmod(0o755)
    bench.driver.containers._runtime_of("")._sealed = SealedProgram(str(script))
    job = bench.job("sleep", "60")
    with pytest.raises(DockyardError):
        bench.do(job)
    assert not leftovers()
    assert not bench.do(RuntimeList())
    assert not list((bench.config.run / "oci").iterdir())
    assert bench.do(job).pid
