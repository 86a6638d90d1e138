"""docker export and docker import: a container's files as a tar, and a tar as an image."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root


def tar(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def exported(stack: Any, tmp_path: Path) -> Path:
    script = "echo mine > /f && chown 5:6 /f && chmod 4750 /f && ln -s f /l && ln /f /h && touch /vol/x"
    stack.docker("run", "--name", "web", "-v", "vol:/vol", "busybox", "sh", "-c", script)
    stack.docker("export", "-o", str(tmp_path / "out.tar"), "web")
    return tmp_path / "out.tar"


def test_a_tar_of_all_but_what_is_mounted(exported: Path) -> None:
    with tarfile.open(exported) as archive:
        members = {member.name: member for member in archive}
    file = members["f"] if members["f"].isreg() else members["h"]
    assert (file.uid, file.gid, file.mode, members["l"].linkname) == (5, 6, 0o4750, "f")
    assert {members["f"].type, members["h"].type} == {tarfile.REGTYPE, tarfile.LNKTYPE}
    assert members["vol"].isdir()
    assert not {"vol/x", "proc/version"} & set(members)


def test_of_one_that_runs_to_stdout(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", "echo x > /new; sleep 1000")
    command = ["docker", "export", "web"]
    data = subprocess.run(command, env=stack.environ, capture_output=True, timeout=60, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert "bin/busybox" in archive.getnames()
    assert stack.out("inspect", "-f", "{{.State.Running}}", "web") == "true"


def test_of_none(stack: Any, tmp_path: Path) -> None:
    result = stack.docker("export", "-o", str(tmp_path / "x"), "nobody", check=False)
    assert (result.returncode, result.stderr) == (1, "Error response from daemon: No such container: nobody\n")


def test_what_was_exported_is_imported(stack: Any, exported: Path) -> None:
    changes = ["-c", 'CMD ["cat", "/f"]', "-c", "ENV A=b", "-c", "WORKDIR /bin"]
    image = stack.out("import", *changes, "-m", "from a tar", str(exported), "example/mine:2")
    assert stack.out("run", "--rm", "example/mine:2") == "mine"
    shown = json.loads(stack.out("inspect", "example/mine:2"))[0]
    assert (shown["Id"], shown["Comment"], shown["Config"]["Env"]) == (image, "from a tar", ["A=b"])
    assert shown["Config"]["WorkingDir"] == "/bin"
    assert len(shown["RootFS"]["Layers"]) == 1
    stack.docker("rmi", "example/mine:2")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_import_from_stdin(stack: Any, pack: Any) -> None:
    command = ["docker", "import", "--platform", "linux/arm64", "-", "stdin:1"]
    made = subprocess.run(
        command, env=stack.environ, input=pack(tar(a=b"1")), capture_output=True, timeout=60, check=True
    )
    assert made.stdout.startswith(b"sha256:")
    assert stack.out("inspect", "-f", "{{.Os}}/{{.Architecture}} {{.Comment}}", "stdin:1") == (
        "linux/arm64 Imported from -"
    )
    stack.docker("rmi", "stdin:1")


def test_import_of_what_is_no_tar(stack: Any, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("this is no tar" * 100)
    before = stack.out("images", "-aq")
    for args in (["bad"], ["bad", "Bad:1"], ["-c", "RUN x", "bad"], ["--platform", "windows/amd64", "bad"]):
        result = stack.docker("import", *args, check=False, cwd=tmp_path)
        assert result.returncode == 1, args
    assert stack.out("images", "-aq") == before


def test_import_from_a_url(stack: Any, tmp_path: Path) -> None:
    """Inside the stack's network namespace, where its loopback is."""
    (tmp_path / "a.tar").write_bytes(tar(a=b"1"))
    assert stack.process is not None
    server = ["nsenter", "-t", str(stack.process.pid), "-n", "python3", "-m", "http.server", "-b", "127.0.0.1", "0"]
    with subprocess.Popen(
        [*server],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        env={"PYTHONUNBUFFERED": "1", "PATH": "/usr/bin:/bin"},
        text=True,
    ) as serving:
        try:
            assert serving.stdout is not None
            port = serving.stdout.readline().split()[5]
            made = stack.out("import", f"http://127.0.0.1:{port}/a.tar", "url:1").splitlines()
            assert made[-1].startswith("sha256:")
            missing = stack.docker("import", f"http://127.0.0.1:{port}/b.tar", check=False)
            assert "404" in missing.stderr
        finally:
            serving.kill()
    stack.docker("rmi", "url:1")
