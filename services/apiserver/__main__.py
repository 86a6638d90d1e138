from __future__ import annotations

import sys

from services.apiserver.server import serve
from shared.runtime.process import run

if __name__ == "__main__":
    sys.exit(run("apiserver", serve))
