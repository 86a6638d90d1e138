"""docker build, with the classic builder: what each instruction does, and the cache."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from shared.runtime.machine import architecture
from tests.integration.builds import build, build_in, write

pytestmark = pytest.mark.root


def run(stack: Any, *command: str, image: str = "made") -> str:
    return str(stack.out("run", "--rm", image, *command))


def config(stack: Any, image: str = "made") -> Any:
    return json.loads(stack.out("inspect", "-f", "{{json .Config}}", image))


def layers(stack: Any, image: str = "made") -> int:
    return len(json.loads(stack.out("inspect", "-f", "{{json .RootFS.Layers}}", image)))


def test_what_is_built_runs_and_nothing_is_left_behind(stack: Any) -> None:
    done = build(
        stack,
        "FROM busybox\nRUN echo built > /f\nCOPY a.txt /a/\nENV NAME=value\nCMD cat /f /a/a.txt && echo $NAME\n",
        a__txt="copied\n",
    )
    assert run(stack).split() == ["built", "copied", "value"]
    assert "Step 2/5 : RUN echo built > /f\n ---> Running in " in done.stdout
    assert "Successfully tagged made:latest" in done.stdout
    assert stack.out("ps", "-aq") == ""
    assert layers(stack) == 3
    assert not list((stack.root / "builder" / "tmp").iterdir())
    newest = stack.out("history", "--format", "{{.CreatedBy}}", "--no-trunc", "made").splitlines()
    assert newest[0].endswith('CMD ["/bin/sh" "-c" "cat /f /a/a.txt && echo $NAME"]')
    assert newest[3] == "/bin/sh -c echo built > /f"


def test_configuration(stack: Any) -> None:
    build(
        stack,
        """FROM busybox
        MAINTAINER somebody
        LABEL one=1 two="with space"
        EXPOSE 80 53/udp
        VOLUME /data ["/more"]
        USER 12:34
        WORKDIR /work
        WORKDIR sub
        STOPSIGNAL SIGINT
        HEALTHCHECK --interval=7s --retries=2 CMD true
        SHELL ["/bin/sh", "-ec"]
        ONBUILD RUN true
        ENTRYPOINT ["echo"]
        CMD ["a", "b"]
        """,
    )
    shown = config(stack)
    assert (shown["User"], shown["WorkingDir"], shown["StopSignal"]) == ("12:34", "/work/sub", "SIGINT")
    assert set(shown["ExposedPorts"]) == {"80/tcp", "53/udp"}
    assert shown["Labels"] == {"one": "1", "two": "with space"}
    assert shown["Healthcheck"]["Interval"] == 7_000_000_000
    assert (shown["Entrypoint"], shown["Cmd"], shown["Shell"]) == (["echo"], ["a", "b"], ["/bin/sh", "-ec"])
    assert shown["OnBuild"] == ["RUN true"]
    assert stack.out("inspect", "-f", "{{.Author}}", "made") == "somebody"


def test_what_was_made_before_is_taken_from_the_cache(stack: Any) -> None:
    lines = [
        "FROM busybox",
        "ENV A=1",
        "RUN cat /proc/sys/kernel/random/uuid > /n",
        "COPY f__txt /f",
        "WORKDIR /w",
        "RUN cat /f",
    ]
    dockerfile = "\n".join(lines).replace("f__txt", "f.txt")
    build(stack, dockerfile, f__txt="1")
    first, image = run(stack, "cat", "/n"), stack.out("inspect", "-f", "{{.Id}}", "made")
    again = build(stack, dockerfile, f__txt="1")
    assert again.stdout.count("Using cache") == 5
    assert stack.out("inspect", "-f", "{{.Id}}", "made") == image
    changed = build(stack, dockerfile, f__txt="2")
    assert changed.stdout.count("Using cache") == 2  # up to the file that is another
    assert run(stack, "cat", "/n") == first
    assert "Using cache" not in build(stack, dockerfile, "--no-cache", f__txt="2").stdout
    assert run(stack, "cat", "/n") != first


def test_cache_from(stack: Any) -> None:
    """With --cache-from, what was built here counts only as far as these images were made of it."""
    dockerfile = "FROM busybox\nENV A=1\nRUN echo x > /x\nRUN echo y > /y\n"
    build(stack, dockerfile)
    stack.docker("tag", "made", "source")
    assert build(stack, dockerfile, "--cache-from", "source").stdout.count("Using cache") == 3
    assert build(stack, dockerfile, "--cache-from", "nothing").stdout.count("Using cache") == 0
    stack.docker("save", "-o", str(stack.directory / "saved.tar"), "source")
    stack.docker("rmi", "-f", "made", "source")
    stack.docker("image", "prune", "-f")
    stack.docker("load", "-i", str(stack.directory / "saved.tar"))  # it has lost its parents, not its history
    again = build(stack, dockerfile + "RUN echo z > /z\n", "--cache-from", "source")
    assert again.stdout.count("Using cache") == 3
    assert run(stack, "cat", "/x", "/y", "/z").split() == ["x", "y", "z"]


def test_stages(stack: Any) -> None:
    dockerfile = """ARG BASE=busybox
        FROM ${BASE} AS first
        RUN mkdir /d && echo one > /d/one && ln -s one /d/link && chown 5:6 /d/one && ln /d/one /d/hard
        FROM first AS second
        RUN echo two > /d/two
        FROM busybox
        COPY --from=second /d /copied
        COPY --from=0 /d/o* /d/link /single/
        COPY --from=busybox:latest /bin/busybox /other/
        """
    build(stack, dockerfile)
    assert run(stack, "sh", "-c", "cat /copied/one /copied/two /copied/link; readlink /copied/link").split() == [
        "one", "two", "one", "one",
    ]  # fmt: skip
    assert run(stack, "stat", "-c", "%u:%g %h", "/copied/one") == "5:6 2"  # --from keeps owners and hard links
    assert run(stack, "sh", "-c", "ls /single; cat /single/link").split() == ["link", "one", "one"]
    assert run(stack, "/other/busybox", "true") == ""
    build(stack, dockerfile, "--target", "first")
    assert run(stack, "ls", "/d").split() == ["hard", "link", "one"]
    missing = build(stack, dockerfile, "--target", "third", check=False)
    assert "failed to reach build target third in Dockerfile" in missing.stderr


def test_from_scratch(stack: Any) -> None:
    lines = ["FROM busybox AS b", "FROM scratch", "WORKDIR /x/y", "COPY --from=b /bin/busybox /bin/",
             'CMD ["/bin/busybox", "pwd"]']  # fmt: skip
    build(stack, "\n".join(lines))
    assert run(stack) == "/x/y"
    failed = build(stack, "FROM scratch\nRUN true\n", check=False)
    assert "RUN needs an image" in failed.stderr
    assert "No image was generated" in build(stack, "FROM scratch\n", check=False).stderr


def test_from_scratch_for_another_platform(stack: Any) -> None:
    shown = "{{.Os}}/{{.Architecture}}/{{.Variant}}"
    for options, first, found in (
        (["--platform", "linux/arm64"], "FROM scratch", "linux/arm64/"),
        (["--platform", "linux/arm64"], "FROM --platform=linux/arm/v7 scratch AS a\nFROM a", "linux/arm/v7"),
        ([], "FROM scratch", f"linux/{architecture()}/"),
    ):
        build(stack, f"{first}\nLABEL a=b\nCOPY Dockerfile /\n", *options)
        assert stack.out("inspect", "-f", shown, "made") == found


def test_arguments(stack: Any) -> None:
    dockerfile = """ARG GLOBAL=g
        FROM busybox
        ARG GLOBAL
        ARG OWN=default
        ARG NONE
        ENV KEPT=${OWN}-${NONE:-none}
        RUN echo "$GLOBAL $OWN $NONE $HTTP_PROXY" > /seen
        ENV OWN=env
        RUN echo "$OWN" > /own
        """
    build(stack, dockerfile, "--build-arg", "OWN=given", "--build-arg", "HTTP_PROXY=p", "--build-arg", "ODD=1")
    assert run(stack, "cat", "/seen", "/own").split() == ["g", "given", "p", "env"]
    assert "KEPT=given-none" in config(stack)["Env"]
    history = stack.out("history", "--format", "{{.CreatedBy}}", "--no-trunc", "made")
    assert "|2 GLOBAL=g OWN=given /bin/sh -c echo" in history
    assert "HTTP_PROXY=" not in history
    warned = build(stack, dockerfile, "--build-arg", "ODD=1")
    assert "One or more build-args [ODD] were not consumed" in warned.stdout


def test_copy(stack: Any) -> None:
    build(
        stack,
        """FROM busybox
        RUN mkdir -p /real /there && ln -s /real /link && echo me:x:5:6::/:/bin/sh >> /etc/passwd
        WORKDIR /work
        COPY one.txt two.txt ./
        COPY one.txt renamed
        COPY dir /there
        COPY dir /link/new
        COPY *.txt /globbed/
        COPY --chown=me:7 --chmod=0640 one.txt /owned
        COPY ["one.txt", "/with space/"]
        COPY <<"RAW" <<COOKED /heredocs/
        $HOME
RAW
        in $PWD ${HOME:-home}
COOKED
        """,
        **{"one__txt": "1\n", "two__txt": "2\n", "dir/in/side": "3\n"},
    )
    assert run(stack, "cat", "one.txt", "two.txt", "renamed", "/there/in/side", "/real/new/in/side").split() == list(
        "12133"
    )
    assert run(stack, "ls", "/globbed", "/with space").split() == [
        "/globbed:",
        "one.txt",
        "two.txt",
        "/with",
        "space:",
        "one.txt",
    ]
    assert run(stack, "stat", "-c", "%U:%g %a", "/owned") == "me:7 640"
    began = time.time() - 600  # of directories that were missing: not 1970
    assert all(int(at) > began for at in run(stack, "stat", "-c", "%Y", "/globbed", "/with space").split())
    assert run(stack, "stat", "-c", "%u:%g", "one.txt") == "0:0"
    assert run(stack, "cat", "/heredocs/RAW", "/heredocs/COOKED").splitlines() == [
        "$HOME",
        "        in  home",
    ]  # less what `out` strips


def test_flags_of_a_copy_have_variables_that_count_in_the_cache(stack: Any) -> None:
    dockerfile = "FROM busybox\nARG U\nARG M=600\nCOPY --chown=$U --chmod=$M a.txt /a\n"
    build(stack, dockerfile, "--build-arg", "U=1", a__txt="")
    assert run(stack, "stat", "-c", "%u:%g %a", "/a") == "1:1 600"
    for arguments, found in ((["U=2"], "2:2 600"), (["U=2", "M=640"], "2:2 640")):
        build(stack, dockerfile, *(word for text in arguments for word in ("--build-arg", text)), a__txt="")
        assert run(stack, "stat", "-c", "%u:%g %a", "/a") == found


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("COPY missing /", "COPY failed: file not found in build context or excluded by .dockerignore: stat missing"),
        ("COPY no*thing /", "COPY failed: no source files were specified"),
        ("ADD missing /", "ADD failed: file not found in build context or excluded by .dockerignore: stat missing"),
        ("ADD a.txt b.txt /dir", "When using ADD with more than one source file, the destination must be a directory"),
        ("ADD --checksum=md5:00 http://127.0.0.1:1/x /", "ADD failed: invalid checksum digest format: md5:00"),
        ("COPY a.txt b.txt /dir", "the destination must be a directory and end with a /"),
        ("COPY ../a.txt/x /", "COPY failed: file not found"),
        ("COPY a.txt /etc/passwd/x", "cannot copy to non-directory: /etc/passwd"),
        ("COPY --wrong=1 a.txt /", "unknown flag: --wrong"),
        ("COPY --chmod=999 a.txt /", "invalid chmod parameter: '999'"),
        ("COPY --chown=nobody-here a.txt /", "unable to find user nobody-here"),
        ("COPY --from=nothing /a /", "invalid from flag value nothing"),
        ("COPY --from=7 /a /", "invalid from flag value 7"),
        ("COPY --from=0 /a /", "invalid from flag value 0: refers to current build stage"),
        ("RUN --mount=type=ssh true", "RUN --mount=type=ssh is not supported"),
        ("RUN --security=insecure true", "RUN --security=insecure is not allowed"),
        ("RUN exit 7", "The command '/bin/sh -c exit 7' returned a non-zero code: 7"),
        ("ENV A", "ENV must have two arguments"),
        ("ADD --checksum=sha256:00 a.txt /", "ADD failed: checksum can't be specified for non-HTTP(S) sources"),
        ("WORKDIR $NOTHING", "cannot normalize nothing"),
        ("NOSUCH thing", "dockerfile parse error on line 2: unknown instruction: NOSUCH"),
        ("STOPSIGNAL SIGNONE", "Invalid signal: SIGNONE"),
    ],
)
def test_what_fails_says_why(stack: Any, line: str, why: str) -> None:
    failed = build(stack, f"FROM busybox\n{line}\n", check=False, a__txt="", b__txt="")
    assert failed.returncode == (7 if "exit 7" in line else 1)
    assert why in failed.stderr
    assert stack.docker("inspect", "made", check=False).returncode


def test_a_container_that_failed_stays_unless_it_is_to_go(stack: Any) -> None:
    build(stack, "FROM busybox\nRUN echo there > /f; exit 1\n", check=False)
    (kept,) = stack.out("ps", "-aq").split()
    assert stack.out("diff", kept).split() == ["A", "/f"]
    build(stack, "FROM busybox\nRUN exit 1\n", "--force-rm", check=False)
    assert stack.out("ps", "-aq").split() == [kept]
    build(stack, "FROM busybox\nRUN true\n", "--rm=false")
    assert len(stack.out("ps", "-aq").split()) == 2


def test_ignore(stack: Any, tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "Dockerfile": "FROM busybox\nCOPY . /c\n",
            ".dockerignore": "*.md\n!README.md\n**/secret\nnode_modules\n!node_modules/keep/*.js\n/build*/\n",
            "a.md": "", "README.md": "", "sub/b.md": "", "sub/deep/secret": "", "secret": "",
            "node_modules/x.js": "", "node_modules/keep/y.js": "", "node_modules/keep/z.css": "", "build1/x": "",
        },
    )  # fmt: skip
    build_in(stack, tmp_path, "-t", "made")
    found = run(stack, "sh", "-c", "cd /c; find . -type f | sort").split()
    assert found == ["./.dockerignore", "./Dockerfile", "./README.md", "./node_modules/keep/y.js", "./sub/b.md"]


def test_triggers_of_the_base(stack: Any) -> None:
    build(stack, "FROM busybox\nONBUILD COPY f.txt /triggered\nONBUILD RUN cat /triggered > /ran\n", f__txt="x")
    stack.docker("tag", "made", "base")
    done = build(stack, "FROM base\nRUN echo own\n", f__txt="of the child")
    assert "# Executing 2 build triggers" in done.stdout
    assert run(stack, "cat", "/ran") == "of the child"
    assert not config(stack).get("OnBuild")


def test_run_in_here_documents_and_other_shells(stack: Any) -> None:
    build(
        stack,
        """FROM busybox
RUN <<EOF
echo $((1 + 1)) > /sum
echo "second" >> /sum
EOF
RUN <<"SCRIPT"
#!/bin/sh -e
false || echo $0 > /script
SCRIPT
RUN cat <<A - > /joined && echo end >> /joined
text
A
SHELL ["/bin/busybox", "sh", "-c"]
RUN echo $0 > /shell
RUN ["/bin/busybox", "touch", "/exec form"]
""",
    )
    assert run(stack, "cat", "/sum", "/script", "/joined").split() == [
        "2",
        "second",
        "/dev/pipes/SCRIPT",
        "text",
        "end",
    ]
    assert run(stack, "ls", "/exec form") == "/exec form"


def test_volumes_users_and_entry_points_of_the_base(stack: Any) -> None:
    """What a step writes into a volume stays; RUN takes the base's user, and not its entry point."""
    build(stack, 'FROM busybox\nVOLUME /data\nUSER 9\nENTRYPOINT ["false"]\nCMD ["x"]\n')
    stack.docker("tag", "made", "base")
    lines = ["FROM base", "USER 0", "RUN mkdir /data && echo kept > /data/f", "COPY f.txt /data/g", "USER 9",
             "RUN id -u > /tmp/u", "ENTRYPOINT []"]  # fmt: skip
    build(stack, "\n".join(lines), f__txt="x")
    assert run(stack, "cat", "/data/f", "/tmp/u").split() == ["kept", "9"]
    assert config(stack).get("Cmd") is None


def test_labels_and_quiet(stack: Any) -> None:
    done = build(stack, "FROM busybox\n", "--label", "a=b", "-q", "-t", "other:tag")
    assert done.stdout.strip() == stack.out("inspect", "-f", "{{.Id}}", "made")
    assert config(stack, "other:tag")["Labels"] == {"a": "b"}
    failed = build(stack, "FROM busybox\nRUN echo seen; exit 3\n", "-q", "--force-rm", check=False)
    assert "seen" in failed.stderr
    assert failed.returncode == 3


def test_the_network_and_limits_of_a_run(stack: Any) -> None:
    looks = ["ip link > /links", "cat /etc/hosts > /h", "ulimit -n > /n", "df -k /dev/shm | tail -1 > /shm"]
    options = ["--network", "none", "--add-host", "there:192.0.2.1", "--ulimit", "nofile=99", "--shm-size", "1m"]
    build(stack, f"FROM busybox\nRUN {'; '.join(looks)}\n", *options)
    assert "eth0" not in run(stack, "cat", "/links")
    assert "192.0.2.1\tthere" in run(stack, "cat", "/h")
    assert run(stack, "cat", "/n") == "99"
    assert "1024" in run(stack, "cat", "/shm")
    build(stack, "FROM busybox\nRUN ip link > /links\nRUN --network=none ip link > /none\n")
    assert "eth0" in run(stack, "cat", "/links")
    assert "eth0" not in run(stack, "cat", "/none")
