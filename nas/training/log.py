"""The record of a training: console rows, a JSON Lines file, and TensorBoard's."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from ortnas.nas.console import Report
from ortnas.nas.files import append_line, read_lines, write_aside

_EVERY = 20


class TrainingLog:
    """Takes the losses of every step and, now and then, probe scores.

    ``curve_file`` gets a line every 20 steps, and where a state is saved (every ``state_every`` steps), with the mean
    loss by kind of subnet since the line before, and one per probing. ``probe()`` returns scores by name and runs every
    ``probe_every`` steps and at the end; 0 turns it off. Steps that a resumed training computes again come out as
    before: what is written of them stays, and their probes are not taken again. ``inputs`` names what the training is
    of: lines of another one are dropped.
    """

    def __init__(
        self,
        curve_file: Path,
        steps: int,
        report: Report,
        row: Callable[[str], None],
        probe: Callable[[], Mapping[str, float]] | None = None,
        probe_every: int = 0,
        state_every: int = _EVERY,
        inputs: str = "",
    ) -> None:
        from tensorboardX import SummaryWriter

        self.curve_file, self.steps, self.report, self.row = curve_file, steps, report, row
        self.probe, self.probe_every, self.state_every, self.inputs = probe, probe_every, state_every, inputs
        self._first_row, self._smoothed = True, math.nan
        self._sums: dict[str, list[float]] = {}
        self._written = self._take_up()
        self._events = SummaryWriter(str(curve_file.with_suffix("")), write_to_disk=True)

    def __call__(self, step: int, losses: list[tuple[str, float]], kinds: list[str]) -> None:
        """``kinds`` names the part that each loss plays, such as ``largest``; ``step`` counts from 1."""
        mean = sum(value for _, value in losses) / len(losses)
        self._smoothed = mean if math.isnan(self._smoothed) else 0.98 * self._smoothed + 0.02 * mean
        for kind, (_, value) in zip(kinds, losses, strict=True):
            self._sums.setdefault(kind, []).append(value)
        if step % _EVERY == 0 or step % self.state_every == 0 or step == self.steps:
            self._note(step, "loss", {kind: sum(values) / len(values) for kind, values in self._sums.items()})
            self._sums.clear()
        if self.probe and self.probe_every and (step % self.probe_every == 0 or step == self.steps):
            scores = self._written.get((step, "score")) or dict(self.probe())
            self._note(step, "score", scores)
            self._show(step, scores)
        self.report(step, self.steps, f"loss {self._smoothed:.4f}")

    def close(self) -> None:
        self._events.close()

    def _note(self, step: int, kind: str, values: dict[str, float]) -> None:
        if (step, kind) in self._written:
            return
        append_line(self.curve_file, {"step": step, kind: values, "inputs": self.inputs})
        for name, value in values.items():
            self._events.add_scalar(f"{kind}/{name}", value, step)

    def _show(self, step: int, scores: dict[str, float]) -> None:
        if self._first_row:
            self._first_row = False
            self.row("    step    loss  " + "  ".join(f"{name:>9}" for name in scores))
        cells = "  ".join(f"{value:>9.4f}" for value in scores.values())
        self.row(f"{step:>8}  {self._smoothed:>6.3f}  {cells}")

    def _take_up(self) -> dict[tuple[int, str], dict[str, float]]:
        """What an earlier start of this training wrote, by step and kind."""
        lines = [line for line in read_lines(self.curve_file) if line.get("inputs") == self.inputs]
        write_aside(self.curve_file, "".join(json.dumps(line) + "\n" for line in lines))
        return {(line["step"], kind): line[kind] for line in lines for kind in ("loss", "score") if kind in line}
