"""Projects for Compose on a stack of their own; every test runs with each version of Compose that is there."""

from __future__ import annotations

from tests.composing import project, pytest_generate_tests
from tests.integration.conftest import calm, shared_stack, stack

__all__ = ["calm", "project", "pytest_generate_tests", "shared_stack", "stack"]
