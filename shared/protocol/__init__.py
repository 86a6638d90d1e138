"""The vocabulary of dockyard: every job, every result, every error, and the frames they travel in."""

from __future__ import annotations

from shared.protocol.archive import *
from shared.protocol.build import *
from shared.protocol.config import *
from shared.protocol.container_views import *
from shared.protocol.containers import *
from shared.protocol.control import *
from shared.protocol.disk import *
from shared.protocol.errors import *
from shared.protocol.exec import *
from shared.protocol.health import *
from shared.protocol.image_removal import *
from shared.protocol.images import *
from shared.protocol.job import *
from shared.protocol.layers import *
from shared.protocol.metrics import *
from shared.protocol.mounts import *
from shared.protocol.netdriver import *
from shared.protocol.networks import *
from shared.protocol.reference import *
from shared.protocol.registry import *
from shared.protocol.runtime import *
from shared.protocol.security import *
from shared.protocol.stats import *
from shared.protocol.streams import *
from shared.protocol.system import *
from shared.protocol.volumes import *
from shared.protocol.wire import *
