"""Mounts: `RUN --mount=…` (Dockerfile reference): what is mounted for one step, and does not stay in its layer.

| type     | is                                                                          | writes            |
|----------|-----------------------------------------------------------------------------|-------------------|
| bind     | a part of the context, of a stage or of an image                            | refused, or lost  |
| cache    | a directory that outlives the build (`Caches`)                              | stay for others   |
| tmpfs    | memory                                                                      | are lost          |
| secret   | a file, or a variable, that the user gave with the build                    | refused           |
"""

from __future__ import annotations

import base64
import binascii
import os
import posixpath
import re
import secrets
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from services.builder.copying import Copy, fingerprint, pick
from services.builder.flags import options, truth
from services.builder.sources import Source, clean, follow, walk
from services.builder.tarstream import Item
from services.builder.transfer import send
from services.builder.trees import Tree
from shared.protocol import InvalidArgument, Mount, NotFound, NotImplementedByUs

if TYPE_CHECKING:
    from services.builder.steps import StageBuild

__all__ = ["MountSpec", "Mounted", "add_bind", "file_for_step", "parse_mount", "place_mounts", "stubs", "told"]

KINDS = ("bind", "cache", "tmpfs", "secret", "ssh")
OTHER_NAMES = {"dst": "target", "destination": "target", "src": "source", "ro": "readonly", "rw": "readwrite"}
KEYS = {
    "bind": {"target", "source", "from", "readonly", "readwrite"},
    "cache": {"target", "source", "from", "readonly", "readwrite", "id", "sharing", "mode", "uid", "gid"},
    "tmpfs": {"target", "size"},
    "secret": {"target", "id", "required", "mode", "uid", "gid", "env"},
}
SHARING = ("shared", "private", "locked")
SIZE = re.compile(r"([0-9]{1,15})([kmgt]?)b?", re.IGNORECASE)
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
SECRETS = "/run/secrets"
TMPFS_OPTIONS = "rw,exec,nosuid,nodev"


@dataclass(frozen=True)
class MountSpec:
    """``target`` is absolute. ``read_only`` is what was said, or the type's default."""

    kind: str
    target: str
    source: str = ""
    origin: str = ""  # ``from``
    read_only: bool = False
    id: str = ""
    sharing: str = "shared"
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    required: bool = False
    env: str = ""
    size: int = 0


@dataclass
class Mounted:
    """What a container is created with. ``told``: what of it belongs to the step's name in the cache."""

    mounts: list[Mount] = field(default_factory=list)
    tmpfs: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    targets: list[str] = field(default_factory=list)
    files: list[tuple[str, bytes, int]] = field(default_factory=list)


def parse_mount(value: str, working_dir: str) -> MountSpec:
    """Read the value of a flag. Errors: InvalidArgument, NotImplementedByUs (ssh)."""
    given: dict[str, str] = {}
    for name, text in options(value):
        key = OTHER_NAMES.get(name, name)
        if text is None and key not in ("readonly", "readwrite", "required"):
            raise InvalidArgument(f"invalid field '{key}' must be a key=value pair")
        given[key] = text or ""
    kind = given.pop("type", "bind").lower()
    if kind not in KINDS:
        raise InvalidArgument(f'unsupported mount type "{kind}"')
    if kind == "ssh":
        raise NotImplementedByUs("RUN --mount=type=ssh is not supported: it needs a session with the client (BuildKit)")
    for key in sorted(set(given) - KEYS[kind]):
        raise InvalidArgument(f"unexpected key '{key}' in '{value}'")
    return _spec(kind, given, working_dir)


def _spec(kind: str, given: dict[str, str], working_dir: str) -> MountSpec:
    target, name = given.get("target", ""), given.get("id", "")
    if kind == "secret":
        name = name or posixpath.basename(target)
        if not name:
            raise InvalidArgument("invalid secret mount: an id or a target is needed")
        target = target or f"{SECRETS}/{posixpath.basename(name)}"
    if not target:
        raise InvalidArgument("target is required")
    target = posixpath.normpath(posixpath.join("/", working_dir, target)).replace("//", "/")
    if target == "/":
        raise InvalidArgument("invalid mount target '/'")
    sharing = given.get("sharing", "shared").lower()
    if sharing not in SHARING:
        raise InvalidArgument(f'unsupported sharing value "{sharing}"')
    return MountSpec(
        kind=kind,
        target=target,
        source=given.get("source", ""),
        origin=given.get("from", ""),
        read_only=_read_only(kind, given),
        id=name or target,
        sharing=sharing,
        mode=_number("mode", given, 8, 0o400 if kind == "secret" else 0o755),
        uid=_number("uid", given, 10, 0),
        gid=_number("gid", given, 10, 0),
        required="required" in given and truth("required", given["required"]),
        env=given.get("env", "") if kind == "secret" else "",
        size=_size(given.get("size", "")),
    )


def _read_only(kind: str, given: dict[str, str]) -> bool:
    if "readwrite" in given:
        return not truth("readwrite", given["readwrite"])
    if "readonly" in given:
        return truth("readonly", given["readonly"])
    return kind in ("bind", "secret")


def _number(key: str, given: dict[str, str], base: int, default: int) -> int:
    try:
        number = int(given[key], base) if key in given else default
    except ValueError:
        raise InvalidArgument(f"invalid value {given[key]} for {key}") from None
    if not 0 <= number < 1 << 32:
        raise InvalidArgument(f"invalid value {given[key]} for {key}")
    return number


def _size(text: str) -> int:
    if not text:
        return 0
    match = SIZE.fullmatch(text)
    if match is None:
        raise InvalidArgument(f"invalid value {text} for size")
    return int(match[1]) * UNITS[match[2].lower()]


# -- for one step


def told(stage: StageBuild, spec: MountSpec) -> str:
    """Return what a mount is called in the cache: of a bind its content counts."""
    text = f"--mount=type={spec.kind},target={spec.target}"
    if spec.kind == "bind":
        picked = pick(_origin(stage, spec), spec.source or "/")
        text += f",{fingerprint(Copy('/', picked, preserve_owner=True))}"
    return text


def _origin(stage: StageBuild, spec: MountSpec) -> Source:
    """Return what a bind's source is in."""
    if not spec.origin:
        return stage.build.context.source
    return stage.build.images.tree(stage.build.other(spec.origin)).source


def place_mounts(stage: StageBuild, specs: list[MountSpec], stack: ExitStack) -> Mounted:
    """Have all mounts of a step ready until ``stack`` is closed. Errors: InvalidArgument, NotFound."""
    mounted = Mounted()
    for spec in specs:
        PLACES[spec.kind](stage, spec, mounted, stack)
    return mounted


def _bind(stage: StageBuild, spec: MountSpec, mounted: Mounted, stack: ExitStack) -> None:
    build = stage.build
    if spec.origin and spec.read_only:
        tree = build.images.tree(build.other(spec.origin))
    elif spec.origin:
        tree = stack.enter_context(build.containers.tree(build.other(spec.origin)))  # what is written goes with it
    else:
        tree = stack.enter_context(build.containers.tree(""))
        context = build.context.source
        items = (Item(path, entry, context, path, (0, 0)) for path, entry in walk(context, "") if path)
        send(build.bus, tree.container, "/", items)
    path = follow(tree.source, clean(spec.source))
    if tree.source.entry(path) is None:
        raise NotFound(f"failed to calculate checksum: {spec.source}: not found")
    add_bind(mounted, str(tree.path / path), spec)


def add_bind(mounted: Mounted, source: str, spec: MountSpec) -> None:
    mounted.mounts.append(Mount(type="bind", source=source, target=spec.target, read_only=spec.read_only))
    mounted.targets.append(spec.target)


def _cache(stage: StageBuild, spec: MountSpec, mounted: Mounted, stack: ExitStack) -> None:
    used = stage.build.builder.caches.used(spec.id, spec.sharing, spec.mode, (spec.uid, spec.gid))
    path, new = stack.enter_context(used)
    if new and spec.origin:
        tree = stage.build.images.tree(stage.build.other(spec.origin))
        source = tree.path / follow(tree.source, clean(spec.source))
        if source.is_dir():
            subprocess.run(["cp", "-a", "--reflink=auto", "--", f"{source}/.", str(path)], check=True)
    add_bind(mounted, str(path), spec)


def _tmpfs(stage: StageBuild, spec: MountSpec, mounted: Mounted, stack: ExitStack) -> None:
    mounted.tmpfs[spec.target] = TMPFS_OPTIONS + (f",size={spec.size}" if spec.size else "")
    mounted.targets.append(spec.target)


def _secret(stage: StageBuild, spec: MountSpec, mounted: Mounted, stack: ExitStack) -> None:
    given = stage.build.job.secrets.get(spec.id)
    if given is None:
        if spec.required:
            raise NotFound(f"secret {spec.id}: not found")
        return
    try:
        content = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument(f"secret {spec.id}: it is not given as base64") from None
    if spec.env:
        mounted.env[spec.env] = content.decode("utf-8", "surrogateescape")
        return
    add_bind(mounted, str(file_for_step(stage.build.builder.secrets, content, spec, stack)), spec)


def file_for_step(directory: Path, content: bytes, spec: MountSpec, stack: ExitStack) -> Path:
    """Have a file until the step is done, on a file system in memory."""
    place = directory / secrets.token_hex(8)
    place.mkdir(mode=0o700)
    stack.callback(shutil.rmtree, place, ignore_errors=True)
    path = place / "content"
    with path.open("xb") as file:
        file.write(content)
        os.fchown(file.fileno(), spec.uid, spec.gid)
        os.fchmod(file.fileno(), spec.mode)
    return path


PLACES = {"bind": _bind, "cache": _cache, "tmpfs": _tmpfs, "secret": _secret}


def stubs(tree: Tree, targets: list[str]) -> list[str]:
    """Return what the runtime will have to make to mount on: all on the way to each target that is not there."""
    missing: set[str] = set()
    for target in targets:
        path = follow(tree, clean(target))
        while path and tree.entry(path) is None:
            missing.add(path)
            path = posixpath.dirname(path)
    return sorted(missing)
