"""skopeo on a stack of its own, and a registry beside it."""

from __future__ import annotations

from tests.integration.conftest import calm, shared_stack, stack
from tests.integration.registry.conftest import beside, clean, registry

__all__ = ["beside", "calm", "clean", "registry", "shared_stack", "stack"]
