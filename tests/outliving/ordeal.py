"""Ordeal: the crowd, sessions and lives, what befalls the stack meanwhile, and the check of all promises at once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from tests.integration.conftest import until
from tests.outliving.crowd import Crowd
from tests.outliving.host import SERVICES, Host
from tests.outliving.lives import STEPS, Life
from tests.outliving.sessions import KINDS, Session

__all__ = ["WAYS", "Ordeal"]

WAYS = ("kill", "freeze", "restart")
CARRIERS = frozenset({"apiserver", "stack", "arbiter"})  # with these a request, and a session, goes


class Ordeal:
    """``say`` takes a line for each thing that is done, so that what went wrong can be told."""

    def __init__(self, host: Host, chance: random.Random, say: Callable[[str], None] = print) -> None:
        self.host, self.chance, self.say = host, chance, say
        self.crowd = Crowd(host)
        self.sessions: list[Session] = []
        self._number = 0

    def gather(self, members: int) -> None:
        self.crowd.add_many(members)
        self.open_sessions()

    def open_sessions(self) -> None:
        for kind in KINDS:
            self._open_session(kind)
        for session in self.sessions:
            session.check()

    def _open_session(self, kind: str) -> None:
        self._number += 1
        self.sessions.append(Session(self.host, kind, self._number))

    def replace_broken_sessions(self) -> int:
        """Open those anew that do not answer, or will not know the exit code; returns how many do not answer."""
        broken = []
        for session in list(self.sessions):
            try:
                session.check()
            except AssertionError:
                broken.append(session)
        for session in [*broken, *(one for one in self.sessions if not one.waits and one not in broken)]:
            self.sessions.remove(session)
            session.end(broken=True)
            self._open_session(session.kind)
        return len(broken)

    def end_sessions(self) -> None:
        while self.sessions:
            self.sessions.pop().end()

    # -- what befalls

    def befall(self, way: str, what: str, seconds: float = 1.0) -> None:
        """Do one thing to the stack, and wait until it is whole again."""
        self._do(way, what, seconds)
        self.host.wait_whole()
        if what in CARRIERS and (way != "freeze" or what == "stack"):
            self.replace_broken_sessions()

    def _do(self, way: str, what: str, seconds: float) -> None:
        self.say(f"  {way} {what}" + (f" {seconds:.1f} s" if way == "freeze" or what in ("stack", "arbiter") else ""))
        if way == "freeze":
            self.host.freeze(what, seconds)
        elif what == "stack":
            self.host.down()
            time.sleep(seconds)
            self.host.up()
        elif what == "arbiter":
            self.host.lose_arbiter()
            time.sleep(seconds)
            self.host.up()
        elif way == "kill":
            self.host.kill(what)
        else:
            self.host.restart(what)

    # -- a life under it

    def live(self, plan: Callable[[str], tuple[str, str, float, float] | None]) -> None:
        """Lead a container through its life.

        ``plan``: step → (way, what, seconds after its begin, seconds it lasts).
        """
        self._number += 1
        life = Life(self.host, self._number)
        for step in STEPS:
            fate = plan(step)
            self.say(f"{life.name} {step}")
            process = life.begin(step)
            if fate is None:
                life.end(step, process, excused=False, twice=False)
                continue
            way, what, after, seconds = fate
            time.sleep(after)
            waiting = threading.Thread(target=process.wait, daemon=True)  # so that its end is not held up by ours
            waiting.start()
            self.befall(way, what, seconds)
            excused = what in CARRIERS and (way != "freeze" or what == "stack")
            refusal = life.end(step, process, excused=excused, twice=what != "engine" or excused)
            if refusal:
                self.say(f"    was refused: {refusal.strip()}")

    def let_some_end(self, spread: float) -> None:
        """Start some that end within ``spread`` seconds, whoever watches by then."""
        for flags in (["--rm"], [], ["--restart=on-failure:2"], ["-p", "127.0.0.1::80"]):
            again = any("on-failure" in flag for flag in flags)
            seconds = self.chance.uniform(0.2, spread) / (4 if again else 1)  # it ends three times
            self.crowd.let_end(round(seconds, 2), self.chance.randrange(1, 120), *flags)

    # -- what must be

    def check(self) -> None:
        """Check every promise."""
        self.say("check")
        self.host.wait_whole()
        self.crowd.check_ended()
        self.crowd.check()
        for session in self.sessions:
            session.check()
        alive = len(self.crowd.members) + len(self.sessions)
        self.host.check_leaks(
            on_bridge=self.crowd.on_bridge + len(self.sessions),
            alive=alive,
            execs=sum(session.execs for session in self.sessions),
        )
        listed = self.host.out("ps", "-a", "--format", "{{.Names}}").split()
        expected = {entry.name for entry in (*self.crowd.members, *self.sessions)}
        assert set(listed) == expected, set(listed) ^ expected
        warnings = [line for line in self.host.docker("info").stderr.splitlines() if "WARNING" in line]
        assert not [line for line in warnings if "quarantine" in line or "answer" in line], warnings
        until(lambda: not self._under_way(), 20, "jobs do not end")

    def _under_way(self) -> list[str]:
        """Return the jobs under way, but those that sessions wait with."""
        rows = self.host.dockyard("jobs", "--running").stdout.splitlines()[1:]
        return [row for row in rows if not any(name in row for name in (" wait(", "exec_wait(", "events("))]

    def disperse(self) -> None:
        for session in self.sessions:
            session.abandon()

    # -- by chance

    def random_fate(self) -> tuple[str, str, float, float] | None:
        chance = self.chance
        dice = chance.random()
        after = chance.choice([0.0, chance.uniform(0, 0.1), chance.uniform(0, 0.4)])
        if dice < 0.2:
            return None
        if dice < 0.25:
            return chance.choice(["kill", "restart"]), chance.choice(["stack", "arbiter"]), after, chance.uniform(0, 3)
        way = chance.choices(WAYS, [6, 3, 1])[0]
        what = chance.choice([*SERVICES, *(["arbiter"] if way == "freeze" else [])])
        if way == "kill" and not self.host.may_end(what):
            way = "freeze"
        return way, what, after, chance.choice([0.3, chance.uniform(0.3, 4), chance.uniform(0.3, 8)])
