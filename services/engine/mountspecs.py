"""Mount specifications: an entry of HostConfig.Binds (``[source:]destination[:words]``) or of HostConfig.Mounts (an
object), checked and resolved. The words and the texts of errors are moby's (volume/mounts)."""

from __future__ import annotations

import posixpath
import secrets
from dataclasses import dataclass

import msgspec

from shared.protocol import (
    ANONYMOUS_LABEL,
    IMAGE_VOLUME_DRIVER,
    BindOptions,
    CreateVolume,
    DriverConfig,
    ImageOptions,
    InvalidArgument,
    Mount,
    MountPoint,
    NotImplementedByUs,
    TmpfsOptions,
    VolumeOptions,
)

__all__ = ["PROPAGATIONS", "Planned", "check_destination", "clean", "plan_bind", "plan_mount", "plan_volume",
           "valid_mode"]  # fmt: skip

PROPAGATIONS = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
MODE_WORDS = (
    frozenset({"ro", "rw"}),
    frozenset({"z", "Z"}),
    PROPAGATIONS,
    frozenset({"nocopy"}),
    frozenset({"consistent", "cached", "delegated"}),
)
DEFAULT_PROPAGATION = "rprivate"
VOLUME_MODE = "z"  # what is shown for a volume that was given no mode
SIZE_UNITS = ((1 << 30, "g"), (1 << 20, "m"), (1 << 10, "k"))
FOREIGN_FIELDS = {
    "bind": ("volume_options", "image_options", "tmpfs_options"),
    "volume": ("bind_options", "image_options", "tmpfs_options"),
    "image": ("bind_options", "volume_options", "tmpfs_options"),
    "tmpfs": ("bind_options", "volume_options", "image_options"),
}


@dataclass(frozen=True)
class Planned:
    """A mount, and the volume that has to be there for it."""

    point: MountPoint
    volume: CreateVolume | None = None


def clean(path: str) -> str:
    """Return an absolute path without "//", "." and ".."; ".." at the top is the top."""
    return "/" + posixpath.normpath(path).lstrip("/")


def check_destination(path: str) -> None:
    """Errors: InvalidArgument (relative, or the root)."""
    if clean(path) == "/":
        raise InvalidArgument("invalid specification: destination can't be '/'")
    _check_absolute(path)


def _check_absolute(path: str) -> None:
    if not path.startswith("/") or "\0" in path:
        raise InvalidArgument(f"invalid mount path: '{path}' mount path must be absolute")


# -- binds


def plan_bind(text: str, volume_driver: str, *, non_recursive: bool = False) -> Planned:
    """Resolve an entry of HostConfig.Binds; if it is read-only, with all below unless ``non_recursive``.

    Errors: InvalidArgument.
    """
    parts = text.split(":")
    if len(parts) == 1:
        parts = ["", *parts]  # a destination alone: an anonymous volume
    source, target, mode = parts if len(parts) == 3 else [*parts, ""][:3]
    if text.startswith(":") or len(parts) > 3 or not target or (len(parts) == 2 and valid_mode(target)):
        raise InvalidArgument(f"invalid volume specification: '{text}'")
    if not valid_mode(mode):
        raise InvalidArgument(f"invalid mode: {mode}")
    try:
        planned = plan_mount(_as_mount(source, target, set(mode.split(",")) - {""}, volume_driver))
    except InvalidArgument as error:
        raise InvalidArgument(f"invalid volume specification: '{text}': {error.message}") from None
    point = planned.point
    shown = mode or (VOLUME_MODE if point.type == "volume" else "")
    made = msgspec.structs.replace(point, mode=shown, create_source=point.type == "bind")
    if non_recursive and made.type == "bind" and not made.writable:
        made = msgspec.structs.replace(made, recursive_read_only=False)
    return Planned(made, planned.volume)


def _as_mount(source: str, target: str, words: set[str], volume_driver: str) -> Mount:
    asked = Mount(type="volume", source=source, target=target, read_only="ro" in words)
    if source.startswith("/"):
        asked.type, volume_driver = "bind", ""
    if propagation := words & PROPAGATIONS:
        asked.bind_options = BindOptions(propagation=min(propagation))
    if "nocopy" in words or volume_driver:
        asked.volume_options = VolumeOptions(
            no_copy="nocopy" in words, driver_config=DriverConfig(name=volume_driver) if volume_driver else None
        )
    return asked


def valid_mode(mode: str) -> bool:
    """Say whether a mode is empty or consists of known words, at most one of a kind."""
    words = mode.split(",")
    kinds = [kind for kind in MODE_WORDS for word in words if word in kind]
    return not mode or (len(kinds) == len(words) and len(set(kinds)) == len(kinds))


# -- mounts


def plan_mount(asked: Mount) -> Planned:
    """Resolve an entry of HostConfig.Mounts. Errors: InvalidArgument, NotImplementedByUs (of a cluster)."""
    if asked.type == "cluster":
        raise NotImplementedByUs(f"mounts of type {asked.type!r} are not implemented")
    try:
        return _plan(asked)
    except InvalidArgument as error:
        raise InvalidArgument(f'invalid mount config for type "{asked.type}": {error.message}') from None


def _plan(asked: Mount) -> Planned:
    if not asked.target:
        raise InvalidArgument("field Target must not be empty")
    check_destination(asked.target)
    for field in msgspec.structs.fields(Mount):
        if field.name in FOREIGN_FIELDS.get(asked.type, ()) and getattr(asked, field.name) is not None:
            raise InvalidArgument(f"field {field.encode_name} must not be specified")
    if asked.type == "bind":
        return Planned(_bind(asked))
    if asked.type == "tmpfs":
        return Planned(_tmpfs(asked))
    if asked.type == "volume":
        return _volume(asked)
    if asked.type == "image":
        return Planned(_image(asked))
    raise InvalidArgument("mount type unknown")


def _bind(asked: Mount) -> MountPoint:
    options = asked.bind_options or BindOptions()
    if not asked.source:
        raise InvalidArgument("field Source must not be empty")
    if options.propagation and options.propagation not in PROPAGATIONS:
        raise InvalidArgument(f"invalid propagation mode: {options.propagation}")
    _check_absolute(asked.source)
    return MountPoint(
        type="bind",
        destination=clean(asked.target),
        source=clean(asked.source),
        writable=not asked.read_only,
        propagation=options.propagation or DEFAULT_PROPAGATION,
        create_source=options.create_mountpoint,
        recursive=not options.non_recursive,
        recursive_read_only=_recursive_read_only(asked, options),
    )


def _recursive_read_only(asked: Mount, options: BindOptions) -> bool | None:
    if not options.read_only_force_recursive:
        return False if options.read_only_non_recursive else None
    if options.read_only_non_recursive:
        raise InvalidArgument("mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive")
    if not asked.read_only or options.non_recursive or options.propagation not in ("", "rprivate"):
        raise InvalidArgument("ReadOnlyForceRecursive requires a read-only, recursive mount with rprivate propagation")
    return True


def _tmpfs(asked: Mount) -> MountPoint:
    given = asked.tmpfs_options or TmpfsOptions()
    if asked.source:
        raise InvalidArgument("field Source must not be specified")
    words = [f"mode={given.mode:o}"] if given.mode else []
    if given.size_bytes:
        divisor, unit = next(((d, u) for d, u in SIZE_UNITS if given.size_bytes % d == 0), (1, ""))
        words.append(f"size={given.size_bytes // divisor}{unit}")
    for option in given.options or []:
        if option not in (["exec"], ["noexec"]):
            raise InvalidArgument(f"invalid option: {'='.join(option)}")
        words += option
    return MountPoint(type="tmpfs", destination=clean(asked.target), writable=not asked.read_only, options=words)


# -- images


def _image(asked: Mount) -> MountPoint:
    """Which image it is, is still to be found."""
    options = asked.image_options or ImageOptions()
    if not asked.source:
        raise InvalidArgument("field Source must not be empty")
    if not _is_local(options.subpath):
        raise InvalidArgument("subpath must be a relative path within the image")
    return MountPoint(
        type="image",
        destination=clean(asked.target),
        driver=IMAGE_VOLUME_DRIVER,
        image=asked.source,
        writable=False,
        subpath=options.subpath,
    )


# -- volumes


def _volume(asked: Mount) -> Planned:
    options = asked.volume_options or VolumeOptions()
    if options.subpath and not asked.source:
        raise InvalidArgument("must not set Subpath when using anonymous volumes")
    if options.subpath and not _is_local(options.subpath):
        raise InvalidArgument("subpath must be a relative path within the volume")
    if asked.read_only and not asked.source:
        raise InvalidArgument("must not set ReadOnly mode when using anonymous volumes")
    config = options.driver_config or DriverConfig()
    volume = CreateVolume(name=asked.source, driver=config.name, driver_opts=config.options, labels=options.labels)
    point = MountPoint(
        type="volume",
        destination=clean(asked.target),
        mode=VOLUME_MODE,
        writable=not asked.read_only,
        populate=not options.no_copy,
        subpath=options.subpath,
    )
    return plan_volume(point, volume)


def plan_volume(point: MountPoint, volume: CreateVolume) -> Planned:
    """Join a mount and its volume; one without a name is anonymous: it is named by chance and labelled so."""
    if not volume.name:
        labels = {**(volume.labels or {}), ANONYMOUS_LABEL: ""}
        volume = msgspec.structs.replace(volume, name=secrets.token_hex(32), labels=labels)
        point = msgspec.structs.replace(point, anonymous=True)
    return Planned(msgspec.structs.replace(point, name=volume.name), volume)


def _is_local(path: str) -> bool:
    """Say whether a relative path stays, word for word, below where it begins."""
    return not path.startswith("/") and "\0" not in path and posixpath.normpath(path).split("/")[0] != ".."
