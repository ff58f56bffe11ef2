"""How large numbers may be that people give.

More would be a slip of the pen; what a checkpoint or a host allows is less and asked of it later.
"""

from __future__ import annotations

MOST_STEPS, MOST_ROWS, MOST_TOKENS, MOST_THREADS = 10**9, 10**9, 65_536, 1024
# What numpy's, torch's and XGBoost's generators all take.
SEEDS = 2**32
# One timed request has to fit into memory several times over.
_MOST_TOKENS_A_REQUEST = 2**22


def check_request(batch: int, sequence: int) -> None:
    """Raises ValueError."""
    if batch * sequence > _MOST_TOKENS_A_REQUEST:
        raise ValueError(f"batch {batch} x sequence {sequence} is more than {_MOST_TOKENS_A_REQUEST} tokens a request")
