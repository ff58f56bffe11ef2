"""A run: its folder, clock, texts, target and models, put together for the command line and for Python."""

from __future__ import annotations

from ortnas.nas.console import Console
from ortnas.nas.run.clock import Clock
from ortnas.nas.run.configuration import Configuration
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.models import Models
from ortnas.nas.run.target import RunTarget
from ortnas.nas.run.texts import Texts


class Run:
    """Holds the folder until it is closed, unless ``only_looks``: then nothing in it may be changed.

    Nothing else is opened before a stage asks for it. Raises ConfigurationError.
    """

    def __init__(self, configuration: Configuration, console: Console, only_looks: bool = False) -> None:
        self.configuration, self.console = configuration, console
        self.folder = RunFolder(configuration)
        self.texts = Texts(configuration, console, self.folder)
        self.target = RunTarget(configuration, console, self.folder, self.texts)
        self.clock = Clock(self.folder.path / "clock.json")
        self.reopen_models()
        if self.folder.rank:
            console.silence()
        if not only_looks and (sentence := self.folder.hold()):
            console.say(sentence)

    def reopen_models(self) -> None:
        """To be called after a training: what was read before is not what it made."""
        self.models = Models(self.configuration, self.console, self.folder, self.texts, self.target)

    def close(self) -> None:
        self.target.close()
        self.folder.release()
