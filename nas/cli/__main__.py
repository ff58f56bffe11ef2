"""``python -m nas.cli`` is ``ortnas``; ``accelerate launch -m nas.cli train`` starts it on several processes."""

from __future__ import annotations

import sys

from nas.cli import app

if __name__ == "__main__":
    sys.exit(app())
