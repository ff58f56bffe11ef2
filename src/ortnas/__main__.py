"""``python -m ortnas`` is ``ortnas``; ``accelerate launch -m ortnas train`` starts it on several processes."""

from __future__ import annotations

import sys

from ortnas.nas.cli import app

if __name__ == "__main__":
    sys.exit(app())
