"""docker cp, as a user types it: in and out, of containers that run, are stopped or paused."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Stack, until

pytestmark = pytest.mark.root

TREE = """mkdir -p /d/sub /w && echo one > /d/one && echo two > /d/sub/two && ln -s one /d/link && ln -s /d /dirlink &&
ln -s /d/one /w/abs && ln -s ../d/sub /w/rel && ln -s nowhere /w/dangling && chown 7:8 /d/one && chmod 4750 /d/one"""
BIG = 96 << 20  # bytes


@pytest.fixture(params=["running", "paused", "stopped"])
def container(stack: Stack, request: pytest.FixtureRequest) -> str:
    """A container with the files of TREE, in each state in which it can be copied from and to."""
    script = f"{TREE}; echo made; exec sleep 1000"
    stack.docker("run", "-d", "--name", "box", "-v", "vol:/vol", "busybox", "sh", "-c", script)
    until(lambda: stack.out("logs", "box") == "made")
    if request.param == "paused":
        stack.docker("pause", "box")
    elif request.param == "stopped":
        stack.docker("kill", "box")
        stack.docker("wait", "box")
    return "box"


@pytest.fixture
def created(stack: Stack) -> str:
    stack.docker("create", "--name", "box", "busybox", "true")
    return "box"


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def raw(stack: Stack, *args: str, data: bytes | None = None, check: bool = True) -> bytes:
    """Run docker with bytes for stdin and stdout."""
    result = subprocess.run(
        ["docker", *args], env=stack.environ, input=data, capture_output=True, timeout=60, check=False
    )
    assert not check or result.returncode == 0, result.stderr
    return result.stdout


def refused(stack: Stack, *args: str, **options: Any) -> str:
    result = stack.docker("cp", *args, check=False, **options)
    assert result.returncode == 1, result.stdout
    return str(result.stderr).strip()


def content(stack: Stack, container: str, path: str) -> bytes:
    """Return a file of a container, whatever its state."""
    with tarfile.open(fileobj=io.BytesIO(raw(stack, "cp", f"{container}:{path}", "-"))) as archive:
        entry = archive.extractfile(archive.getmembers()[0])
        assert entry is not None
        return entry.read()


def test_out_in_every_state(stack: Stack, container: str, tmp_path: Path) -> None:
    stack.docker("cp", f"{container}:/d", str(tmp_path))  # to a directory: into it
    assert (tmp_path / "d/sub/two").read_text() == "two\n"
    assert str((tmp_path / "d/link").readlink()) == "one"
    stack.docker("cp", f"{container}:/d", str(tmp_path / "new"))  # to nothing: becomes it
    assert (tmp_path / "new/one").read_text() == "one\n"
    stack.docker("cp", f"{container}:/d/.", str(tmp_path / "content"))
    assert (tmp_path / "content/one").read_text() == "one\n"
    stack.docker("cp", f"{container}:/d/sub/two", str(tmp_path / "new/one"))  # over a file
    assert (tmp_path / "new/one").read_text() == "two\n"
    stack.docker("cp", f"{container}:d/one", str(tmp_path / "relative"))  # from the root, not the working directory
    assert (tmp_path / "relative").read_text() == "one\n"


def test_in_in_every_state(stack: Stack, container: str, tmp_path: Path) -> None:
    (tmp_path / "src/deep").mkdir(parents=True)
    (tmp_path / "src/deep/file").write_text("in\n")
    stack.docker("cp", str(tmp_path / "src"), f"{container}:/w")
    assert content(stack, container, "/w/src/deep/file") == b"in\n"
    stack.docker("cp", str(tmp_path / "src"), f"{container}:/w/named")
    assert content(stack, container, "/w/named/deep/file") == b"in\n"
    stack.docker("cp", f"{tmp_path}/src/.", f"{container}:/w")
    assert content(stack, container, "/w/deep/file") == b"in\n"
    stack.docker("cp", str(tmp_path / "src/deep/file"), f"{container}:/d/sub/two")
    assert content(stack, container, "/d/sub/two") == b"in\n"
    stack.docker("cp", str(tmp_path / "src/deep/file"), f"{container}:/vol/kept")
    assert stack.out("run", "--rm", "-v", "vol:/v", "busybox", "cat", "/v/kept") == "in"
    assert stack.out("inspect", "-f", "{{.State.Status}}", container) in ("running", "paused", "exited")


def test_tars_on_stdin_and_stdout(stack: Stack, container: str) -> None:
    data = raw(stack, "cp", f"{container}:/d", "-")
    assert set(members(data)) == {"d", "d/one", "d/sub", "d/sub/two", "d/link"}
    one = members(data)["d/one"]
    assert (one.uid, one.gid, one.mode) == (7, 8, 0o4750)
    raw(stack, "cp", "-", f"{container}:/w", data=data)
    assert content(stack, container, "/w/d/sub/two") == b"two\n"
    again = members(raw(stack, "cp", f"{container}:/w/d/one", "-"))["one"]
    assert (again.uid, again.gid, again.mode) == (7, 8, 0o4750)  # a tar says whose its files are


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_a_compressed_tar_is_taken(stack: Stack, created: str, mode: Any) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{mode}") as archive:
        info = tarfile.TarInfo("packed")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"hello"))
    raw(stack, "cp", "-", f"{created}:/tmp", data=buffer.getvalue())
    assert content(stack, created, "/tmp/packed") == b"hello"


def test_links_are_copied_or_followed(stack: Stack, container: str, tmp_path: Path) -> None:
    stack.docker("cp", f"{container}:/w/abs", str(tmp_path))
    assert str((tmp_path / "abs").readlink()) == "/d/one"
    (tmp_path / "abs").unlink()
    stack.docker("cp", "-L", f"{container}:/w/abs", str(tmp_path))
    assert (tmp_path / "abs").read_text() == "one\n"
    stack.docker("cp", "-L", f"{container}:/w/rel", str(tmp_path))
    assert (tmp_path / "rel/two").read_text() == "two\n"
    (tmp_path / "target").write_text("t\n")
    (tmp_path / "outer").symlink_to("target")
    stack.docker("cp", str(tmp_path / "outer"), f"{container}:/w/asis")
    assert members(raw(stack, "cp", f"{container}:/w/asis", "-"))["asis"].linkname == "target"
    stack.docker("cp", "-L", str(tmp_path / "outer"), f"{container}:/w/followed")
    assert content(stack, container, "/w/followed") == b"t\n"
    stack.docker("cp", str(tmp_path / "target"), f"{container}:/dirlink")  # a link to a directory is followed
    assert content(stack, container, "/d/target") == b"t\n"


def test_owners_with_and_without_a(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_text("x")
    os.chown(file, 1234, 1235)
    file.chmod(0o640)
    stack.docker("run", "-d", "--name", "box", "--user", "12:34", "busybox", "sleep", "1000")
    stack.docker("cp", str(file), "box:/tmp/plain")
    stack.docker("cp", "-a", str(file), "box:/tmp/archive")
    shown = stack.out("exec", "box", "stat", "-c", "%u:%g %a", "/tmp/plain", "/tmp/archive").splitlines()
    assert shown == ["1234:1235 640", "12:34 640"]  # `-a` asks for the container's user (copyUIDGID)
    stack.docker("cp", "box:/tmp/archive", str(tmp_path / "out"))
    copied = (tmp_path / "out").stat()
    assert (copied.st_uid, stat.S_IMODE(copied.st_mode)) == (os.getuid(), 0o640)


def test_refusals_in_dockers_words(stack: Stack, container: str, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_text("x")
    file, directory = str(tmp_path / "file"), str(tmp_path / "dir")

    def missing(path: str) -> str:
        said = f"Could not find the file {path} in container {container}"
        return stack.missing("container:path", f"{container}:{path}", said)

    for args, said in (
        ([f"{container}:/nope", directory], missing("/nope")),
        ([f"{container}:/w/dangling/x", directory], missing("/w/dangling/x")),
        ([file, f"{container}:/no/such"], missing("/no")),
        (["nobody:/d", directory], stack.missing("container:path", "nobody:/d", "No such container: nobody")),
        ([file, "nobody:/d"], stack.missing("container:path", "nobody:/", "No such container: nobody")),
        ([directory, f"{container}:/d/one"], "cannot copy directory"),
        ([f"{container}:/d", file], "cannot copy directory"),
        ([file, f"{container}:/no-directory/"], "no such directory"),
        ([f"{container}:/d/one", f"{tmp_path}/no-directory/"], "no such directory"),
    ):
        assert said in refused(stack, *args), args
    assert f'destination "{container}:/d/one" must be a directory' in refused(
        stack, "-", f"{container}:/d/one", input=""
    )
    assert "not a directory" in refused(stack, f"{container}:/d/one/", directory).lower()
    if stack.out("inspect", "-f", "{{.State.Running}}", container) == "true":
        said = refused(stack, file, f"{container}:/dev/null")
        assert said == f'destination "{container}:/dev/null" must be a directory or a regular file: got a device'
    broken = refused(stack, "-", f"{container}:/d", input="this is no tar" * 100)
    assert broken.startswith("Error response from daemon: ")


def test_a_directory_in_place_of_a_file_and_the_reverse(stack: Stack, created: str, tmp_path: Path) -> None:
    (tmp_path / "tmp").write_text("a file of a directory's name")
    said = refused(stack, str(tmp_path / "tmp"), f"{created}:/")
    assert 'cannot overwrite directory "/tmp" with non-directory "/"' in said
    (tmp_path / "etc/passwd").mkdir(parents=True)
    said = refused(stack, f"{tmp_path}/etc/.", f"{created}:/etc")
    assert 'cannot overwrite non-directory "/etc/passwd" with directory "/etc"' in said
    assert b"root" in content(stack, created, "/etc/passwd")


def test_binds_volumes_and_tmpfs(stack: Stack, tmp_path: Path) -> None:
    bound, new = tmp_path / "bound", tmp_path / "new"
    bound.mkdir()
    new.write_text("new")
    (bound / "there").write_text("there")
    options = ["-v", f"{bound}:/bound", "-v", f"{bound}:/ro:ro", "--tmpfs", "/t", "-v", "data:/data"]
    stack.docker("run", "-d", "--name", "box", *options, "busybox", "sleep", "1000")
    for running in (True, False):
        if not running:
            stack.docker("kill", "box")
            stack.docker("wait", "box")
        assert content(stack, "box", "/bound/there") == b"there"
        (bound / "copied").unlink(missing_ok=True)
        stack.docker("cp", str(new), "box:/bound/copied")
        assert (bound / "copied").read_text() == "new"
        stack.docker("cp", str(new), "box:/data/file")
        assert content(stack, "box", "/data/file") == b"new"
        assert "mounted volume is marked read-only" in refused(stack, str(new), "box:/ro/x")
        assert content(stack, "box", "/ro/there") == b"there"
        if running:
            stack.docker("cp", str(new), "box:/t/file")
            assert stack.out("exec", "box", "cat", "/t/file") == "new"


def test_a_read_only_root(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    stack.docker("run", "-d", "--name", "box", "--read-only", "-v", "vol:/v", "busybox", "sleep", "1000")
    for _ in ("running", "stopped"):
        assert "container rootfs is marked read-only" in refused(stack, str(tmp_path / "f"), "box:/tmp/f")
        stack.docker("cp", str(tmp_path / "f"), "box:/v/f")
        assert b"root" in content(stack, "box", "/etc/passwd")
        stack.docker("kill", "box", check=False)


def test_symlinks_lead_nowhere_out(stack: Stack, container: str, tmp_path: Path) -> None:
    secret, new = tmp_path / "secret", tmp_path / "new"
    secret.write_text("the host's")
    new.write_text("new")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, target in (("up", "../" * 20 + str(tmp_path).lstrip("/")), ("abs", str(tmp_path))):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
        info = tarfile.TarInfo("abs/written")  # through a link of the same archive
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    raw(stack, "cp", "-", f"{container}:/w", data=data.getvalue(), check=False)
    for link in ("up", "abs"):
        source = f"{container}:/w/{link}/secret"
        said = f"Could not find the file /w/{link}/secret in container {container}"
        assert stack.missing("container:path", source, said) in refused(stack, source, "-")
        refused(stack, str(new), f"{container}:/w/{link}/planted")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "secret"]


class Peaks:
    """The memory that our processes have had at most (VmHWM, in kB), since `begin`."""

    SERVICES = ("engine", "graphdriver", "apiserver", "execdriver")

    def __init__(self, stack: Stack) -> None:
        self._pids = [pid for service in self.SERVICES for pid in stack.pids(service)]
        for pid in self._pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._before = self._peaks()

    def _peaks(self) -> dict[int, int]:
        lines = {pid: Path(f"/proc/{pid}/status").read_text().splitlines() for pid in self._pids}
        return {pid: int(next(x for x in said if x.startswith("VmHWM")).split()[1]) for pid, said in lines.items()}

    def grown(self) -> int:
        now = self._peaks()
        return max(now[pid] - self._before[pid] for pid in self._pids)


def test_large_copies_take_no_memory(stack: Stack, created: str, tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(BIG)
    stack.docker("cp", "/etc/hostname", f"{created}:/tmp")
    peaks = Peaks(stack)
    stack.docker("cp", str(big), f"{created}:/big")
    stack.docker("cp", f"{created}:/big", str(tmp_path / "back"))
    assert (tmp_path / "back").stat().st_size == BIG
    assert peaks.grown() < 24 << 10


def slowly(stack: Stack, *args: str) -> subprocess.Popen[bytes]:
    """Run docker with a stdout that is read when the test wants to."""
    return subprocess.Popen(
        ["docker", *args], env=stack.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )


@pytest.fixture
def big(stack: Stack) -> str:
    stack.docker("run", "--name", "box", "busybox", "sh", "-c", f"dd if=/dev/zero of=/big bs=1M count={BIG >> 20}")
    return "box"


@pytest.mark.parametrize("verb", [["cp", "box:/big", "-"], ["export", "box"]])
def test_what_dies_mid_way_is_no_whole(stack: Stack, big: str, verb: list[str]) -> None:
    copying = slowly(stack, *verb)
    assert copying.stdout is not None
    assert copying.stderr is not None
    came = len(copying.stdout.read(65536))
    for pid in stack.pids("graphdriver"):
        os.kill(pid, 9)
    while chunk := copying.stdout.read(1 << 20):
        came += len(chunk)
    assert copying.wait(30) != 0
    assert b"EOF" in copying.stderr.read()
    assert came < BIG
    copying.stdout.close()
    copying.stderr.close()
    until(lambda: stack.pids("graphdriver"))
    assert len(raw(stack, *verb)) > BIG


@pytest.fixture
def killing(stack: Stack) -> Iterator[list[int]]:
    """While this is in use, the graphdriver is killed again and again, as soon as it is there."""
    killed: list[int] = []
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05) and len(killed) < 3:
            for pid in set(stack.pids("graphdriver")) - set(killed):
                killed.append(pid)
                os.kill(pid, 9)

    thread = threading.Thread(target=work)
    thread.start()
    yield killed
    stop.set()
    thread.join()


def test_what_dies_before_the_first_byte_is_asked_again(stack: Stack, created: str, killing: list[int]) -> None:
    until(lambda: len(killing) == 3 or (raw(stack, "cp", f"{created}:/etc/passwd", "-") and False), 30)
