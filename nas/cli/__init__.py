"""The command line. Heavy imports wait until a command needs them."""

from ortnas.nas.cli.commands import app

__all__ = ["app"]
