"""docker login and logout."""

from __future__ import annotations

from tests.integration.conftest import Stack
from tests.registries import PASSWORD, USER, docker_registry

SECRET_PORT = 5001


def test_login_and_logout(clean: Stack, beside: list[str]) -> None:
    with docker_registry(clean.directory / "secret", port=SECRET_PORT, password=True, inside=beside) as host:
        clean.docker("tag", "mine", f"{host}/box")
        clean.docker("rmi", "mine")
        assert "no basic auth credentials" in clean.docker("push", f"{host}/box", check=False).stderr
        wrong = clean.docker("login", "-u", USER, "--password-stdin", host, input="wrong", check=False)
        assert wrong.returncode == 1
        assert "401 Unauthorized" in wrong.stderr
        right = clean.docker("login", "-u", USER, "--password-stdin", host, input=PASSWORD)
        assert "Login Succeeded" in right.stdout
        clean.docker("push", f"{host}/box")
        clean.docker("rmi", f"{host}/box")
        assert clean.out("run", "--rm", f"{host}/box", "echo", "hello") == "hello"
        clean.docker("logout", host)
        clean.docker("rmi", f"{host}/box")
        denied = clean.docker("pull", f"{host}/box", check=False)
        assert (
            f"pull access denied for {host}/box, repository does not exist or may require 'docker login'"
            in denied.stderr
        )
