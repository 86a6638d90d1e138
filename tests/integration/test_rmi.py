"""docker rmi."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.root


@pytest.fixture
def own(stack: Any) -> str:
    """An image of one layer above busybox's, named `own`."""
    stack.docker("run", "--name", "maker", "busybox", "touch", "/own")
    image = stack.out("commit", "maker", "own")
    stack.docker("rm", "maker")
    return str(image)


def there(stack: Any, image: str) -> bool:
    return image in stack.out("images", "-aq", "--no-trunc").split()


def test_the_last_name_takes_the_image_with_it(stack: Any, own: str) -> None:
    stack.docker("tag", "own", "again")
    assert stack.out("rmi", "again") == "Untagged: again:latest"
    assert there(stack, own)
    said = stack.out("rmi", "own").splitlines()
    assert said[:2] == ["Untagged: own:latest", f"Deleted: {own}"]
    assert said[2].startswith("Deleted: sha256:")
    assert not there(stack, own)
    assert stack.out("run", "--rm", "busybox", "echo", "hello") == "hello"


def test_an_id_with_two_names_must_be_forced(stack: Any, own: str) -> None:
    stack.docker("tag", "own", "user/again")
    refused = stack.docker("rmi", own[7:19], check=False)
    assert refused.returncode == 1
    said = f"conflict: unable to delete {own[7:19]} (must be forced) - image is referenced in multiple repositories"
    assert said in refused.stderr
    assert {"Untagged: own:latest", "Untagged: user/again:latest", f"Deleted: {own}"} <= set(
        stack.out("rmi", "-f", own[7:19]).splitlines()
    )


def test_what_a_container_is_made_of(stack: Any, own: str) -> None:
    container = stack.out("run", "-d", "own", "sleep", "1000")
    by_id = stack.docker("rmi", own[7:19], check=False).stderr
    assert f"(cannot be forced) - image is being used by running container {container[:12]}" in by_id
    assert "(cannot be forced)" in stack.docker("rmi", "-f", own[7:19], check=False).stderr
    by_name = stack.docker("rmi", "own", check=False).stderr
    assert "conflict: unable to" in by_name
    assert container[:12] in by_name
    stack.docker("stop", "-t", "0", container)
    assert f"(must be forced) - image is being used by stopped container {container[:12]}" in (
        stack.docker("rmi", own[7:19], check=False).stderr
    )
    stack.docker("rmi", "-f", own[7:19])
    assert not there(stack, own)
    stack.docker("start", container)  # it has its layers still


def test_an_image_that_others_are_made_of(stack: Any, own: str) -> None:
    stack.docker("create", "--name", "maker", "own", "true")
    child = stack.out("commit", "maker", "child")
    stack.docker("rm", "maker")
    assert stack.out("rmi", "own") == "Untagged: own:latest"
    refused = stack.docker("rmi", own[7:19], check=False)
    assert f"unable to delete {own[7:19]} (cannot be forced) - image has dependent child images" in refused.stderr
    assert f"Deleted: {own}" in stack.out("rmi", child).splitlines()  # it was there for its child alone
    assert not there(stack, own)


def test_of_none_the_others_go(stack: Any, own: str) -> None:
    result = stack.docker("rmi", "nobody", "own", check=False)
    said = "No such image: nobody" if stack.client < 23 else "No such image: nobody:latest"
    assert (result.returncode, said in result.stderr) == (1, True)
    assert f"Deleted: {own}" in result.stdout
    assert stack.docker("rmi", "-f", "nobody", check=False).returncode == 0
