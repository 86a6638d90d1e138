"""What a build takes from elsewhere: archives and URLs, contexts of git and of tarballs; and contexts that attack."""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import io
import json
import lzma
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.builds import build, build_in, context_tar, post_build, write
from tests.integration.conftest import until

pytestmark = pytest.mark.root


def run(stack: Any, *command: str) -> str:
    return str(stack.out("run", "--rm", "made", *command))


def said(messages: list[dict[str, Any]]) -> str:
    return "".join(message.get("stream", "") for message in messages)


@pytest.fixture
def web(stack: Any, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A directory, and the address of a server that has it."""
    tmp_path.chmod(0o755)
    server = stack.out("run", "-d", "-v", f"{tmp_path}:/www:ro", "busybox", "httpd", "-f", "-p", "80", "-h", "/www")
    address = stack.out("inspect", "-f", "{{.NetworkSettings.IPAddress}}", server)
    until(lambda: stack.docker("exec", server, "wget", "-q", "-O-", "http://127.0.0.1/", check=False).returncode < 2)
    yield tmp_path, f"http://{address}"
    stack.docker("rm", "-f", server)


def packed(directory: Path, name: str, files: dict[str, str]) -> None:
    data = context_tar(files)
    packers = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "tar": bytes}
    (directory / name).write_bytes(packers[name.rpartition(".")[2]](data))


def test_archives_are_unpacked_by_add_alone(stack: Any, tmp_path: Path) -> None:
    for suffix in ("tar", "gz", "bz2", "xz"):
        packed(tmp_path, f"a.{suffix}", {f"in/{suffix}": suffix})
    (tmp_path / "no.gz").write_bytes(gzip.compress(b"no tar"))
    write(tmp_path, {"Dockerfile": "FROM busybox\nADD a.tar a.gz a.bz2 a.xz no.gz /d/\nCOPY a.gz /copied\n"})
    build_in(stack, tmp_path, "-t", "made")
    assert run(stack, "sh", "-c", "cd /d; find . -type f | sort").split() == [
        "./in/bz2", "./in/gz", "./in/tar", "./in/xz", "./no.gz",
    ]  # fmt: skip
    assert run(stack, "sh", "-c", "tar -tzf /copied") == "in/gz"


def test_add_of_a_url(stack: Any, web: tuple[Path, str]) -> None:
    directory, url = web
    packed(directory, "x.gz", {"f": "content"})
    digest = hashlib.sha256((directory / "x.gz").read_bytes()).hexdigest()
    dockerfile = f"FROM busybox\nADD --checksum=sha256:{digest} {url}/x.gz /d/\nADD {url}/x.gz /named\n"
    build(stack, dockerfile)
    assert run(stack, "stat", "-c", "%a %u %n", "/d/x.gz", "/named").split("\n") == ["600 0 /d/x.gz", "600 0 /named"]
    assert build(stack, dockerfile).stdout.count("Using cache") == 2
    packed(directory, "x.gz", {"f": "another"})
    assert "digest mismatch" in build(stack, dockerfile, check=False).stderr
    assert "got HTTP status code 404" in build(stack, f"FROM busybox\nADD {url}/no /d/\n", check=False).stderr
    assert "cannot determine filename" in build(stack, f"FROM busybox\nADD {url} /d/\n", check=False).stderr


def test_a_tarball_or_a_dockerfile_as_the_context(stack: Any, web: tuple[Path, str]) -> None:
    directory, url = web
    packed(directory, "context.gz", {"Dockerfile": "FROM busybox\nCOPY f /f\n", "f": "of the tarball"})
    write(directory, {"Dockerfile": "FROM busybox\nRUN echo alone > /f\n"})
    status, messages = post_build(stack, f"remote={url}/context.gz&t=made")
    assert (status, "Successfully tagged made:latest" in said(messages)) == (200, True), messages
    assert run(stack, "cat", "/f") == "of the tarball"
    _, messages = post_build(stack, f"remote={url}/Dockerfile&t=made")
    assert run(stack, "cat", "/f") == "alone"
    status, messages = post_build(stack, "remote=nonsense")
    assert (status, messages) == (400, [{"message": "remote context could not be understood: nonsense"}])


def git(directory: Path, *words: str) -> None:
    author = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com",
              "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com", "PATH": "/usr/bin:/bin"}  # fmt: skip
    subprocess.run(["git", "-C", str(directory), *words], env=author, check=True, capture_output=True)


def test_a_repository_of_git_as_the_context(stack: Any, web: tuple[Path, str]) -> None:
    directory, url = web
    work = write(directory / "work", {"Dockerfile": "FROM busybox\nCOPY . /c\n", "f": "main"})
    git(work, "init", "-q", "-b", "main")
    git(work, "add", ".")
    git(work, "commit", "-qm", "1")
    git(work, "checkout", "-qb", "other")
    write(work, {"sub/Dockerfile": "FROM busybox\nCOPY g /g\n", "sub/g": "sub"})
    git(work, "add", ".")
    git(work, "commit", "-qm", "2")
    git(work, "checkout", "-q", "main")
    git(directory, "clone", "-q", "--bare", "work", "r.git")
    git(directory / "r.git", "update-server-info")
    status, messages = post_build(stack, f"remote={url}/r.git&t=made")
    assert (status, "Successfully built" in said(messages)) == (200, True), messages
    assert run(stack, "sh", "-c", "ls -a /c; cat /c/f").split() == [".", "..", "Dockerfile", "f", "main"]
    _, messages = post_build(stack, f"remote={url}/r.git%23other:sub&t=made")
    assert run(stack, "cat", "/g") == "sub", messages
    status, messages = post_build(stack, f"remote={url}/r.git%23--upload-pack=x")
    assert (status, messages) == (400, [{"message": "invalid refspec: --upload-pack=x"}])
    status, messages = post_build(stack, f"remote={url}/none.git")
    assert status == 500
    assert "error fetching" in messages[0]["message"]
    assert not list((stack.root / "builder" / "tmp").iterdir())


def test_a_repository_with_a_submodule(stack: Any, web: tuple[Path, str]) -> None:
    """From a server of plain files, which gives no part of a repository."""
    directory, url = web
    for name, files in (("inner", {"i": "inner"}), ("outer", {"Dockerfile": "FROM busybox\nCOPY . /c\n"})):
        work = write(directory / name, files)
        git(work, "init", "-q", "-b", "main")
        if name == "outer":
            git(work, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(directory / "inner"), "m")
            git(work, "config", "-f", ".gitmodules", "submodule.m.url", f"{url}/inner.git")
        git(work, "add", ".")
        git(work, "commit", "-qm", "1")
        git(directory, "clone", "-q", "--bare", name, f"{name}.git")
        git(directory / f"{name}.git", "update-server-info")
    status, messages = post_build(stack, f"remote={url}/outer.git&t=made")
    assert (status, "Successfully built" in said(messages)) == (200, True), messages
    assert run(stack, "cat", "/c/m/i") == "inner"


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def test_no_context_reaches_beyond_itself(stack: Any, tmp_path: Path) -> None:
    """Links are followed inside the context, a copy is made of what they lead to, and nothing of the host is."""
    (tmp_path / "secret").write_text("of the host")
    files: dict[str, Any] = {
        "Dockerfile": "FROM busybox\nCOPY out /\nCOPY up/secret /stolen\n",
        "out": link("out", f"{tmp_path}/secret"),
        "up": link("up", f"../../../../../..{tmp_path}"),
    }
    status, messages = post_build(stack, "t=made", context_tar(files))
    assert "file not found in build context" in json.dumps(messages), (status, messages)
    for hostile in ({"../x": "1"}, {"a": link("a", "/etc/passwd", tarfile.LNKTYPE)}):
        data = context_tar({"Dockerfile": "FROM busybox\n", **hostile})
        status, messages = post_build(stack, "", data)
        assert status == 400, messages
        assert "Error processing tar file" in messages[0]["message"]
    # a link in the image that leads out of it
    build(stack, f"FROM busybox\nRUN ln -s {tmp_path} /out && mkdir -p {tmp_path}\nCOPY f.txt /out/\n", f__txt="mine")
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert run(stack, "cat", f"{tmp_path}/f.txt") == "mine"


def test_what_the_api_refuses(stack: Any) -> None:
    data = context_tar({"Dockerfile": "FROM busybox\n"})
    cases = {
        "version=2": (501, "BuildKit is not supported by this daemon: build with DOCKER_BUILDKIT=0"),
        "remote=client-session": (501, "BuildKit is not supported by this daemon: build with DOCKER_BUILDKIT=0"),
        "squash=1": (501, "squash is not supported: build in stages and copy what is wanted to the last one"),
        "dockerfile=none": (400, "Cannot locate specified Dockerfile: none"),
        "platform=foobar": (400, '"foobar": unknown operating system or architecture: invalid argument'),
        "platform=windows": (400, "operating system is not supported"),
        "t=UPPER": (400, "invalid reference format: repository name must be lowercase"),
        "buildargs=x": (400, "invalid value for buildargs: JSON is malformed: invalid character (byte 0)"),
        "isolation=hyperv": (501, "isolation hyperv is not supported on linux"),
    }
    for query, (status, message) in cases.items():
        assert post_build(stack, query, data) == (status, [{"message": message}]), query
    assert post_build(stack, "", b"no tar")[0] == 400
    assert post_build(stack, "", b"")[0] == 400


def test_a_failed_command_tells_its_status_once(stack: Any) -> None:
    data = context_tar({"Dockerfile": "FROM busybox\nRUN echo out; echo err >&2; exit 3\n"})
    status, messages = post_build(stack, "forcerm=1", data)
    message = "The command '/bin/sh -c echo out; echo err >&2; exit 3' returned a non-zero code: 3"
    assert status == 200
    assert messages[-1] == {"errorDetail": {"code": 3, "message": message}, "error": message}
    assert sum("error" in line for line in messages) == 1
    assert {"stream": "out\n"} in messages
    assert {"stream": "\x1b[91merr\n\x1b[0m"} in messages


def test_secrets_come_with_the_request_and_go_with_the_step(stack: Any) -> None:
    look = "cat /run/secrets/one > /seen; echo $TWO >> /seen; stat -c %a:%u /run/secrets/one >> /seen"
    lines = ["FROM busybox", "RUN --mount=type=secret,id=no test ! -e /run/secrets/no",
             f"RUN --mount=type=secret,id=one,mode=0440,uid=5 --mount=type=secret,id=two,env=TWO {look}"]  # fmt: skip
    given = {"one": base64.b64encode(b"first\n").decode(), "two": base64.b64encode(b"second").decode()}
    header = base64.urlsafe_b64encode(json.dumps(given).encode()).decode()
    data = context_tar({"Dockerfile": "\n".join(lines)})
    _, messages = post_build(stack, "t=made", data, X_Dockyard_Build_Secrets=header)
    assert run(stack, "cat", "/seen").split() == ["first", "second", "440:5"], messages
    assert run(stack, "sh", "-c", "test -e /run || echo gone") == "gone"  # nothing of what it was mounted on
    assert not list((stack.run / "builder").iterdir())
    required = context_tar({"Dockerfile": "FROM busybox\nRUN --mount=type=secret,id=no,required true\n"})
    assert post_build(stack, "", required)[1][-1]["error"] == "secret no: not found"


def test_a_build_of_a_large_context_costs_no_memory(stack: Any) -> None:
    """Its bytes are in a file without a name, not in the builder."""
    size = 192 << 20
    head = tarfile.TarInfo("big")
    head.size = size
    data = context_tar({"Dockerfile": "FROM busybox\nRUN true\nCOPY big /big\nRUN test -s /big\n"})[: 3 * 512]
    data = data[:1024] + head.tobuf() + bytes(size) + bytes(1024)
    (builder,) = stack.pids("builder")
    before = peak(builder)
    _, messages = post_build(stack, "t=made", gzip.compress(data, 1))
    assert "Successfully tagged" in said(messages), messages
    assert peak(builder) - before < 64 << 20


def peak(pid: int) -> int:
    lines = io.StringIO(Path(f"/proc/{pid}/status").read_text())
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
