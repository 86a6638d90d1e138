"""packaging/dockyard.toml and docs/configuration.md are made of `Config`: `make golden` writes, this compares."""

from __future__ import annotations

import json
import os
import re
import tomllib
from itertools import groupby
from pathlib import Path
from typing import Any

from services.ctl.startup import CHECKS
from shared.runtime.config import SETTINGS, Config
from shared.runtime.loading import load_config
from shared.runtime.settings import Setting

ROOT = Path(__file__).parents[3]
SAMPLE, DOCUMENT = ROOT / "packaging" / "dockyard.toml", ROOT / "docs" / "configuration.md"
HEAD = """\
# dockyard.toml: every setting with its default. Copy it to /etc/dockyard/dockyard.toml, and take away the # before
# what you change. A flag of `dockyard up` wins over DOCKYARD_<SETTING> in the environment, which wins over this file.
# Names may be written with _ for -. An unknown name is an error (exit status 78). docs/configuration.md tells more.
"""


def toml(value: Any) -> str:
    if isinstance(value, tuple):
        return json.dumps(list(value))
    return json.dumps(value) if isinstance(value, bool | int | float) else json.dumps(str(value or ""))


def sample() -> str:
    parts = [HEAD]
    for section, settings in groupby(SETTINGS.values(), lambda one: one.section):
        parts.append(f"\n# ---- {section}\n")
        for one in settings:
            names = f" (also {', '.join(name.replace('_', '-') for name in one.also)})" if one.also else ""
            parts.append(f"\n# {one.help}{names}\n#{one.key} = {toml(one.default)}\n")
    return "".join(parts)


def table() -> str:
    parts = []
    for section, settings in groupby(SETTINGS.values(), lambda one: one.section):
        parts += [f"\n### {section}\n", "| setting | default | |", "|---|---|---|", *map(row, settings)]
    return "\n".join(parts)


def row(one: Setting) -> str:
    names = ", ".join(f"`{name.replace('_', '-')}`" for name in (one.name, *one.also))
    letter = f", `-{one.letter}`" if one.letter else ""
    return f"| {names}{letter} | `{toml(one.default)}` | {one.help.replace('|', chr(92) + '|')} |"


def checks() -> str:
    return "\n".join(f"{number}. {check.__doc__.splitlines()[0]}" for number, check in enumerate(CHECKS, 1))  # type: ignore[union-attr]


def rendered(text: str) -> str:
    for name, block in {"settings": table(), "checks": checks()}.items():
        made = f"<!-- generated: {name} -->\n{block}\n<!-- end -->"
        text = re.sub(rf"<!-- generated: {name} -->.*?<!-- end -->", lambda _, m=made: m, text, flags=re.DOTALL)
    return text


def test_the_sample_file_and_the_document_are_those_of_the_code() -> None:
    text = DOCUMENT.read_text()
    if os.environ.get("UPDATE_GOLDEN"):
        SAMPLE.write_text(sample())
        DOCUMENT.write_text(rendered(text))
        return
    assert SAMPLE.read_text() == sample()
    assert text == rendered(text)


def test_the_sample_without_its_comment_marks_is_the_default_configuration(tmp_path: Path) -> None:
    settings = "\n".join(line[1:] for line in SAMPLE.read_text().splitlines() if re.match(r"#[a-z]", line))
    assert len(tomllib.loads(settings)) == len(SETTINGS)
    file = tmp_path / "d.toml"
    file.write_text(settings)
    assert load_config({}, {}, file) == Config()


def test_every_setting_says_what_it_is() -> None:
    assert all(one.help and one.section for one in SETTINGS.values())
