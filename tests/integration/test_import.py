"""docker import."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root


@pytest.fixture
def exported(stack: Any, tmp_path: Path) -> Path:
    stack.docker("create", "--name", "source", "busybox", "true")
    stack.docker("export", "-o", str(tmp_path / "root.tar"), "source")
    return tmp_path / "root.tar"


def test_from_a_file_with_changes_and_a_message(stack: Any, exported: Path) -> None:
    changes = ['CMD ["echo", "hello"]', "ENV A=1", "WORKDIR /tmp", "EXPOSE 80", "LABEL l=m"]
    options = [word for change in changes for word in ("-c", change)]
    image = stack.out("import", *options, "-m", "by hand", str(exported), "made:1")
    shown = json.loads(stack.out("image", "inspect", image))[0]
    config = shown["Config"]
    assert (shown["RepoTags"], shown["Comment"], len(shown["RootFS"]["Layers"])) == (["made:1"], "by hand", 1)
    assert (config["Cmd"], config["Env"], config["WorkingDir"]) == (["echo", "hello"], ["A=1"], "/tmp")
    assert (config["ExposedPorts"], config["Labels"]) == ({"80/tcp": {}}, {"l": "m"})
    assert stack.out("run", "--rm", "made:1") == "hello"
    assert "by hand" in stack.out("history", "made:1")


def test_from_a_pipe_without_a_name(stack: Any, exported: Path) -> None:
    with exported.open("rb") as stream:
        made = subprocess.run(
            ["docker", "import", "-"], env=stack.environ, stdin=stream, capture_output=True, text=True, check=True
        )
    image = made.stdout.strip()
    assert stack.out("images", "-q", "--no-trunc", "--filter", "dangling=true") == image
    assert stack.out("run", "--rm", image, "echo", "hello") == "hello"


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        (b"no tar" * 1000, [], "invalid"),
        (b"", ["-c", "RUN true"], "run is not a valid change command"),
    ],
)
def test_what_is_refused_leaves_nothing(stack: Any, tmp_path: Path, data: bytes, options: list[str], said: str) -> None:
    if not data:
        buffer = io.BytesIO()
        tarfile.open(fileobj=buffer, mode="w").close()
        data = buffer.getvalue()
    (tmp_path / "x.tar").write_bytes(data)
    result = stack.docker("import", *options, str(tmp_path / "x.tar"), "made", check=False)
    assert (result.returncode, said in result.stderr.lower()) == (1, True), result.stderr
    assert stack.out("images", "-aq", "made") == ""
