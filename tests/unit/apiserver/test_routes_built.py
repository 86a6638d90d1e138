"""The application is made in each worker's start: what no request needs is not made then."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from werkzeug.routing import Rule

from services.apiserver.app import create_app
from shared.bus.bus import FakeBus


def test_what_builds_a_url_is_compiled_when_one_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    original = Rule._compile_builder

    def counted(rule: Rule, append_unknown: bool = True) -> Any:
        compiled.append(rule.rule)
        return original(rule, append_unknown)

    monkeypatch.setattr(Rule, "_compile_builder", counted)
    app = create_app(FakeBus({}), FakeBus({}), threading.Event())
    assert compiled == []
    with app.test_request_context():
        assert app.url_for("containers.inspect", ref="web", size=1) == "/containers/web/json?size=1"
    assert compiled == ["/containers/<path:ref>/json"]
