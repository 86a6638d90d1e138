"""The execdriver's contract once more, with runc as the OCI runtime."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.execdriver.driver import Runtime
from services.execdriver.runc import Runc
from tests.contract.test_execdriver import (
    Bench,
    bench_at,
    shared_rootfs,
    test_a_command_that_cannot_run,
    test_a_new_driver_adopts_what_runs_and_reports_what_has_ended,
    test_a_signal_is_128_and_its_number,
    test_a_terminal_and_its_size,
    test_an_exec_runs_once_and_its_end_is_told,
    test_an_exec_that_cannot_run_leaves_nothing,
    test_binds_tmpfs_and_a_read_only_root,
    test_delete_is_idempotent,
    test_limits_reach_the_cgroup,
    test_output_and_exit_code,
    test_stdin_is_piped_and_half_closed,
    test_the_sandbox_is_in_force,
    test_the_user_with_its_groups_home_and_directory,
)

__all__ = [
    "shared_rootfs",
    "test_a_command_that_cannot_run",
    "test_a_new_driver_adopts_what_runs_and_reports_what_has_ended",
    "test_a_signal_is_128_and_its_number",
    "test_a_terminal_and_its_size",
    "test_an_exec_runs_once_and_its_end_is_told",
    "test_an_exec_that_cannot_run_leaves_nothing",
    "test_binds_tmpfs_and_a_read_only_root",
    "test_delete_is_idempotent",
    "test_limits_reach_the_cgroup",
    "test_output_and_exit_code",
    "test_stdin_is_piped_and_half_closed",
    "test_the_sandbox_is_in_force",
    "test_the_user_with_its_groups_home_and_directory",
]

pytestmark = [pytest.mark.root, pytest.mark.skipif(shutil.which("runc") is None, reason="runc is not installed")]


class RuncBench(Bench):
    def new_runtime(self) -> Runtime:
        return Runc("runc", self.config.run / "oci")


@pytest.fixture
def bench(tmp_path: Path, shared_rootfs: Path) -> Iterator[Bench]:
    with bench_at(RuncBench(tmp_path), shared_rootfs) as made:
        yield made
