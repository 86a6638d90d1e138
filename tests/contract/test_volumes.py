"""What volume drivers promise, on each that claims it; and what is made of them: filling, subpaths, removal."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.graphdriver import syscalls
from services.graphdriver.volumes import filling
from services.graphdriver.volumes.copying import DIRECTORY, copy_tree, opened
from services.graphdriver.volumes.driver import Options, VolumeDriver
from services.graphdriver.volumes.filling import FILLED, FILLING, fill, settle
from services.graphdriver.volumes.local import Local
from services.graphdriver.volumes.volumes import Volumes
from shared.protocol import Conflict, DockyardError, InvalidArgument, NotFound
from shared.runtime.mountinfo import mounts_below

pytestmark = pytest.mark.root

TMPFS: Options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=0750,noexec"}
DRIVERS: dict[str, Callable[[Path], VolumeDriver]] = {"local": lambda directory: Local(directory / "volumes")}


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VolumeDriver]:
    made = DRIVERS[request.param](tmp_path)
    yield made
    for volume in made.mounted():
        made.unmount(volume)
    assert not mounts_below(tmp_path)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    yield Local(tmp_path / "volumes")
    for point in reversed(mounts_below(tmp_path)):
        syscalls.unmount(point)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# -- every driver


def test_data_stays_over_mounts_until_it_is_removed(driver: VolumeDriver) -> None:
    where = driver.create("data", None)
    assert driver.create("data", {}) == where
    path = driver.mount("data", None)
    (path / "file").write_text("hello")
    driver.unmount("data")
    driver.unmount("data")
    assert (driver.mount("data", None) / "file").read_text() == "hello"
    assert driver.usage("data") == 5
    driver.remove("data")
    driver.remove("data")
    assert not list(driver.mount("data", None).iterdir())


def test_options_are_checked_before_anything_is_made(driver: VolumeDriver) -> None:
    for options, text in (
        ({"colour": "blue"}, 'create data: invalid option: "colour"'),
        ({"size": "1g"}, "create data: quota size requested but no quota support"),
        ({"type": "tmpfs"}, 'create data: missing required option: "device"'),
        ({"device": "tmpfs"}, 'create data: missing required option: "type"'),
        ({"o": "size=1m"}, 'create data: missing required option: "device"'),
        ({"type": "cifs", "device": "//host:445/x"}, "create data: port not allowed in CIFS device URL"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            driver.create("data", options)
        assert caught.value.message.startswith(text)
    assert not driver.mounted()


# -- local


def test_modes_are_dockers_whatever_the_umask(local: Local, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        local = Local(tmp_path / "fresh")
        data = local.create("data", None)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o7777 for path in (tmp_path / "fresh", data.parent, data)] == [0o701, 0o701, 0o755]


def test_a_tmpfs_is_mounted_once_and_goes_with_its_content(local: Local) -> None:
    for _ in range(2):
        data = local.mount("data", TMPFS)
    assert mounts_below(data) == [data]
    assert local.mounted() == ["data"]
    assert data.stat().st_mode & 0o7777 == 0o750
    assert os.statvfs(data).f_flag & os.ST_NOEXEC
    (data / "file").touch()
    local.unmount("data")
    assert not list(local.mount("data", TMPFS).iterdir())


def test_a_bind_is_read_only_where_it_is_said_and_never_removed_with_the_volume(local: Local, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (host / "precious").touch()
    data = local.mount("data", {"type": "none", "device": str(host), "o": "bind,ro"})
    with pytest.raises(OSError, match="Read-only"):
        (data / "file").touch()
    local.remove("data")
    assert names(host) == ["precious"]
    assert not local.mounted()


def test_what_cannot_be_mounted_is_told_without_its_password(local: Local) -> None:
    options = {"type": "none", "device": "/no/such", "o": "bind,password=secret"}
    with pytest.raises(DockyardError) as caught:
        local.mount("data", options)
    text = caught.value.message
    assert text.startswith("error while mounting volume '") and "/volumes/data/_data': failed to mount local" in text
    assert text.endswith("flags: 0x1000, data: password=********: no such file or directory")
    assert not local.mounted()


def test_something_mounted_inside_is_never_removed(local: Local, tmp_path: Path) -> None:
    data = local.create("data", None)
    (data / "inner").mkdir()
    syscalls.mount("tmpfs", data / "inner", "tmpfs", "")
    with pytest.raises(Conflict, match=f"remove data: something is mounted at {data}/inner"):
        local.remove("data")
    assert data.is_dir()
    syscalls.unmount(data / "inner")
    local.remove("data")
    assert not data.parent.exists()


def test_a_removal_is_taken_up_where_it_stopped(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    data = local.create("data", None)
    (data / "file").touch()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        local.remove("data")
    assert not data.exists()
    assert data.parent.exists()
    local.remove("data")
    assert not data.parent.exists()


def test_names_of_mount_points_may_have_any_byte(tmp_path: Path) -> None:
    odd = tmp_path / "a b\tc\\d\ne"
    odd.mkdir()
    syscalls.mount("tmpfs", odd, "tmpfs", "")
    try:
        assert mounts_below(tmp_path) == [odd]
    finally:
        syscalls.unmount(odd)


# -- filling


def make_image(path: Path) -> Path:
    """Return a directory with one of everything that a volume may get."""
    (path / "sub").mkdir(parents=True)
    (path / "sub" / "file").write_text("content")
    os.link(path / "sub" / "file", path / "again")
    (path / "link").symlink_to("/etc/passwd")
    os.mkfifo(path / "fifo")
    os.mknod(path / "null", 0o20666, os.makedev(1, 3))
    (path / ".hidden").touch()
    (path / "sub" / "file").chmod(0o4751)
    os.setxattr(path / "sub" / "file", "user.colour", b"blue")
    os.chown(path / "sub" / "file", 1000, 1001)
    (path / "sub" / "file").chmod(0o4751)
    os.utime(path / "sub" / "file", ns=(10**18, 10**18 + 1))
    os.chown(path, 5, 6)
    path.chmod(0o1733)
    os.utime(path, ns=(10**18, 10**18 + 2))
    return path


def listing(path: Path) -> list[str]:
    command = ["find", ".", "-printf", "%p %y %m %U:%G %n %l %T@\n"]
    return sorted(subprocess.run(command, cwd=path, capture_output=True, text=True, check=True).stdout.splitlines())


def test_a_tree_is_copied_as_it_is(tmp_path: Path) -> None:
    image, copy = make_image(tmp_path / "image"), tmp_path / "copy"
    copy.mkdir()
    with opened(image, DIRECTORY) as source, opened(copy, DIRECTORY) as target:
        copy_tree(source, target)
    assert listing(copy) == listing(image)
    assert os.getxattr(copy / "again", "user.colour") == b"blue"
    assert (copy / "null").stat().st_rdev == os.makedev(1, 3)


def test_a_tree_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    deep, copy = tmp_path / "deep", tmp_path / "copy"
    (deep / "/".join("d" * 300)).mkdir(parents=True)
    copy.mkdir()
    refused = pytest.raises(InvalidArgument, match="nested too deeply")
    with opened(deep, DIRECTORY) as source, opened(copy, DIRECTORY) as target, refused:
        copy_tree(source, target)


class Died(BaseException):
    pass


@pytest.mark.parametrize("step", ["sync_file_system", "_move_up", "copy_attributes"])
def test_a_fill_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The process dies at ``step``: before the copy was complete there is nothing afterwards, else all of it."""
    image, volume = make_image(tmp_path / "image"), tmp_path / "volume"
    volume.mkdir()

    def die(*_: object, **__: object) -> None:
        raise Died

    with monkeypatch.context() as patch, pytest.raises(Died), opened(image, DIRECTORY) as source:
        patch.setattr(filling, step, die)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        fill(volume, source)
    settle(volume)
    top, *entries = listing(volume)
    if step == "sync_file_system":
        assert not entries
    else:
        wanted, *rest = listing(image)
        assert (top.split()[:4], entries) == (wanted.split()[:4], rest)


def test_what_came_meanwhile_stays(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    (volume / FILLED).mkdir(parents=True)
    (volume / FILLED / "file").write_text("the image's")
    (volume / FILLED / "other").write_text("the image's")
    (volume / "file").write_text("somebody's")
    settle(volume)
    assert {path.name: path.read_text() for path in volume.iterdir()} == {"file": "somebody's", "other": "the image's"}


def test_links_in_place_of_what_is_made_for_filling_are_left_alone(tmp_path: Path) -> None:
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    outside.mkdir()
    (outside / "precious").touch()
    volume.mkdir()
    (volume / FILLING).symlink_to(outside)
    (volume / FILLED).symlink_to(outside)
    settle(volume)
    assert (outside / "precious").exists()
    assert names(volume) == [FILLED, FILLING]


# -- volumes of containers


class StandInLayers:
    """A container's root filesystem is a directory here."""

    def __init__(self, rootfs: Path) -> None:
        self.rootfs, self.mounted = rootfs, 0

    def mount(self, container: str) -> Path:
        self.mounted += 1
        return self.rootfs

    def unmount(self, container: str) -> None:
        self.mounted = 0


class Bench:
    def __init__(self, directory: Path) -> None:
        self.rootfs, self.run = directory / "rootfs", directory / "run"
        self.rootfs.mkdir()
        self.layers = StandInLayers(self.rootfs)
        self.local = Local(directory / "volumes")
        self.volumes = Volumes([self.local], self.run, self.layers)  # type: ignore[arg-type]
        self.data = directory / "volumes" / "data" / "_data"

    def populate(self, destination: str, options: Options = None) -> list[str]:
        self.volumes.populate("local", "data", options, "c", destination)
        return names(self.data)

    def mount(self, *subpaths: str, container: str = "c") -> dict[str, str]:
        return self.volumes.mount("local", "data", None, container, list(subpaths))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for point in reversed(mounts_below(tmp_path)):
        syscalls.unmount(point)


def test_an_unknown_driver_is_told_in_dockers_words(bench: Bench) -> None:
    with pytest.raises(
        NotFound, match='create data: error looking up volume plugin flocker: plugin "flocker" not found'
    ):
        bench.volumes.create("flocker", "data", None)


def test_an_empty_volume_is_filled_once(bench: Bench) -> None:
    make_image(bench.rootfs / "srv")
    assert len(bench.populate("/srv")) == 6
    assert listing(bench.data) == listing(bench.rootfs / "srv")
    shutil.rmtree(bench.data / "sub")
    assert len(bench.populate("/srv")) == 5
    assert not bench.layers.mounted


def test_an_empty_directory_gives_its_owner_and_mode(bench: Bench) -> None:
    (bench.rootfs / "srv").mkdir()
    (bench.rootfs / "srv").chmod(0o1770)
    os.chown(bench.rootfs / "srv", 7, 8)
    bench.populate("/srv")
    status = bench.data.stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o1770, 7, 8)


def test_where_the_image_has_nothing_the_volume_stays_empty(bench: Bench) -> None:
    assert bench.populate("/no/such") == []
    assert bench.data.stat().st_mode & 0o7777 == 0o755


def test_no_symlink_of_the_image_leads_out_of_it(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").touch()
    (bench.rootfs / "etc").mkdir()
    (bench.rootfs / "etc" / "inside").touch()
    (bench.rootfs / "up").symlink_to("../../../../../etc")
    (bench.rootfs / "out").symlink_to(tmp_path / "secret")
    assert bench.populate("/out") == []
    assert bench.populate("/up") == ["inside"]


def test_a_file_in_the_place_of_a_volume_is_refused(bench: Bench) -> None:
    (bench.rootfs / "file").touch()
    for destination in ("/file", "/file/x"):
        with pytest.raises(InvalidArgument, match=f"cannot mount volume over existing file, file exists {destination}"):
            bench.populate(destination)
    assert not bench.layers.mounted


def test_a_volume_on_another_file_system_is_filled_too(bench: Bench, tmp_path: Path) -> None:
    make_image(bench.rootfs / "srv")
    host = tmp_path / "host"
    host.mkdir()
    assert len(bench.populate("/srv", {"type": "none", "device": str(host), "o": "bind"})) == 6
    assert listing(host) == listing(bench.rootfs / "srv")


def test_a_subpath_is_held_until_it_is_let_go(bench: Bench) -> None:
    bench.local.create("data", None)
    (bench.data / "a" / "b").mkdir(parents=True)
    (bench.data / "a" / "file").write_text("content")
    (bench.data / "link").symlink_to("a/b")
    paths = bench.mount("", "a/file", "link")
    assert paths[""] == str(bench.data)
    assert Path(paths["a/file"]).read_text() == "content"
    shutil.rmtree(bench.data / "a")
    (bench.data / "a").symlink_to("/etc")  # too late
    assert not list(Path(paths["link"]).iterdir())
    assert [(held.name, held.containers) for held in bench.volumes.held()] == [("data", ["c"])]
    for _ in range(2):
        bench.volumes.unmount("local", "data", "c", last=True)
    assert not list(bench.run.iterdir())
    assert not mounts_below(bench.run)
    assert not bench.volumes.held()


@pytest.mark.parametrize("subpath", ["up", "absolute", "a/../../../etc", "magic/root/etc"])
def test_no_subpath_leads_out_of_its_volume(bench: Bench, subpath: str) -> None:
    bench.local.create("data", None)
    (bench.data / "a").mkdir()
    (bench.data / "up").symlink_to("../../..")
    (bench.data / "absolute").symlink_to("/etc")
    (bench.data / "magic").symlink_to("/proc/self")
    with pytest.raises(InvalidArgument, match="path concatenation escapes the base directory"):
        bench.mount(subpath)
    assert not mounts_below(bench.run)


def test_a_subpath_that_is_missing_is_named(bench: Bench) -> None:
    with pytest.raises(NotFound, match=f"cannot access path {bench.data}/no/such: No such file"):
        bench.mount("no/such")


def test_a_mount_settles_what_a_fill_left(bench: Bench) -> None:
    bench.local.create("data", None)
    (bench.data / FILLING / "half").mkdir(parents=True)
    bench.mount("")
    assert not names(bench.data)


def test_two_containers_hold_the_same_volume_apart(bench: Bench) -> None:
    bench.local.create("data", None)
    (bench.data / "a").mkdir()
    bench.mount("a", container="one")
    bench.mount("a", container="two")
    bench.volumes.unmount("local", "data", "one", last=False)
    assert [held.containers for held in bench.volumes.held()] == [["two"]]
