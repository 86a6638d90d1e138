"""A running stack offers every job name of the 2014 daemon (v1.3)."""

from __future__ import annotations

import json
from typing import Any

V1_3 = """
commands
init_networkdriver allocate_interface release_interface allocate_port link
serveapi acceptconnections
events log subscribers_count
version
auth search
attach commit container_changes container_copy container_inspect containers create rm export info kill logs pause
unpause resize restart start stop top wait image_delete execCreate execStart execResize
build
image_set image_tag tag image_get image_inspect image_tarlayer image_export history images viz load import pull push
trust_key_check trust_update_base
""".split()


def test_every_name_of_2014_has_a_holder(stack: Any) -> None:
    assert len(V1_3) == len(set(V1_3)) == 55
    names = stack.dockyard("commands").stdout.split()
    assert not set(V1_3) - set(names)
    assert json.loads(stack.dockyard("commands", "--json").stdout) == names
