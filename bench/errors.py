"""The base of what goes wrong in timing."""


class BenchError(Exception):
    """What the user, or the host's owner, can mend; the message is one sentence that says how."""
