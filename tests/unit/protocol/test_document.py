"""docs/protocol.md and the code are one: its tables are made here, and compared (`make golden` rewrites them)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import msgspec

from shared.protocol import ERRORS, MAGIC, MAX_MESSAGE_SIZE, TICKET_LIFETIME, Header, Kind, catalogue, result_type

DOCUMENT = Path(__file__).parents[3] / "docs" / "protocol.md"


def type_name(kind: Any) -> str:
    if kind in (None, type(None)):
        return "nothing"
    if get_origin(kind) is Annotated:
        return type_name(get_args(kind)[0])
    if isinstance(kind, type) and not hasattr(kind, "__origin__"):
        return kind.__name__
    return re.sub(r"shared\.protocol\.\w+\.|typing\.", "", str(kind)).replace("|", "or")


def fields(kind: type[Any]) -> str:
    shown = [f"`{f.encode_name}`" if f.required else f"`{f.encode_name}?`" for f in msgspec.structs.fields(kind)]
    return ", ".join(shown) or "-"


def jobs_table() -> str:
    rows = ["| job | module | fields | result |", "|---|---|---|---|"]
    for name, kind in sorted(catalogue().items()):
        module = kind.__module__.rpartition(".")[2]
        rows.append(f"| `{name}` | {module} | {fields(kind)} | {type_name(result_type(kind))} |")
    return "\n".join(rows)


def header_table() -> str:
    def row(field: msgspec.structs.FieldInfo) -> str:
        default = msgspec.json.encode(field.default).decode()
        return f"| `{field.encode_name}` | {type_name(field.type)} | `{default}` |"

    rows = ["| field | type | default |", "|---|---|---|"]
    return "\n".join([*rows, *map(row, msgspec.structs.fields(Header))])


def errors_table() -> str:
    rows = ["| code | status |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{code}` | {kind.status} |" for code, kind in ERRORS.items())])


def repeatable() -> str:
    names = sorted(name for name, kind in catalogue().items() if kind.REPEATABLE)
    return f"Repeatable: {', '.join(f'`{name}`' for name in names)}."


def rendered(text: str) -> str:
    tables = {"header": header_table(), "errors": errors_table(), "jobs": jobs_table(), "repeatable": repeatable()}
    for name, table in tables.items():
        block = f"<!-- generated: {name} -->\n{table}\n<!-- end -->"
        text = re.sub(rf"<!-- generated: {name} -->.*?<!-- end -->", lambda _, b=block: b, text, flags=re.DOTALL)
    return text


def test_the_tables_are_those_of_the_code() -> None:
    text = DOCUMENT.read_text()
    if os.environ.get("UPDATE_GOLDEN"):
        DOCUMENT.write_text(rendered(text))
        return
    assert text == rendered(text)


def test_the_text_names_every_kind_and_the_constants() -> None:
    text = DOCUMENT.read_text()
    assert set(re.findall(r"^\| `([A-Z]+)` \|", text, re.MULTILINE)) == set(Kind)
    assert f"`{MAGIC.decode()}`" in text
    assert f"{MAX_MESSAGE_SIZE >> 20} MiB" in text
    assert f"for {TICKET_LIFETIME:.0f} s" in text


def test_the_documented_limits_are_the_codes() -> None:
    from services.engine.dispatch import HOLDER_TIMEOUT
    from services.engine.router import SILENCE_LIMIT
    from shared.bus.bus import PATIENCE
    from shared.bus.client import HEARTBEAT_INTERVAL, LONG, LONG_INTERVAL, RETRY_TIME

    text = DOCUMENT.read_text()
    assert f"waits up to {HOLDER_TIMEOUT:.0f} s for a holder" in text
    assert f"sends nothing for {SILENCE_LIMIT:.0f} s" in text
    assert f"heard nothing for {HEARTBEAT_INTERVAL} s" in text
    assert f"each {LONG_INTERVAL:.0f} s when it has waited for {LONG:.0f} s" in text
    assert f"after {PATIENCE:.0f} s without any answer" in text
    assert f"for {RETRY_TIME:.0f} s after it was lost" in text
