"""What a person sees: progress, tables, sentences. Bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

Report = Callable[[int, int, str], None]
_PLAIN_INTERVAL_S = 15.0


class Console:
    """Writes for people; to stderr where stdout belongs to ``--json``."""

    def __init__(self, to_stderr: bool = False) -> None:
        self._rich = RichConsole(stderr=to_stderr, highlight=False, soft_wrap=True)

    def silence(self) -> None:
        """Nothing is written from here on."""
        self._rich.quiet = True

    def say(self, text: str = "") -> None:
        self._rich.print(text, markup=False)

    def heading(self, title: str, why: str) -> None:
        """A stage's name and one sentence on what it is for."""
        self._rich.print()
        self._rich.print(title, style="bold", markup=False)
        self._rich.print(why, style="dim", markup=False)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns of numbers are right-aligned. Off a terminal it is Markdown, never cut to a width."""
        right = [
            all(not row[position] or row[position][0].isdigit() for row in rows) for position in range(len(columns))
        ]
        self.say()
        if self._rich.is_terminal:
            # Labels and texts of users may look like markup.
            table = Table(title=escape(title), title_justify="left")
            for column, is_right in zip(columns, right, strict=True):
                table.add_column(escape(column), justify="right" if is_right else "left")
            for row in rows:
                table.add_row(*map(escape, row))
            self._rich.print(table)
            return
        widths = [max(len(row[position]) for row in (columns, *rows)) for position in range(len(columns))]
        rules = [f"{'-' * (width - is_right)}{':' * is_right}" for width, is_right in zip(widths, right, strict=True)]
        self.say(f"{title}\n")
        for row in (columns, rules, *rows):
            cells = zip(row, widths, right, strict=True)
            line = " | ".join(cell.rjust(width) if is_right else cell.ljust(width) for cell, width, is_right in cells)
            self.say(f"| {line} |")

    @contextmanager
    def progress(self, description: str) -> Iterator[Report]:
        """Yields ``report(done, total, note)``."""
        if self._rich.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            with Progress(*columns, console=self._rich) as bar:
                task = bar.add_task(description, total=None, note="")
                yield lambda done, total, note: bar.update(task, completed=done, total=total, note=note)
        else:
            yield self._plain_progress(description)

    def _plain_progress(self, description: str) -> Report:
        started = last = time.monotonic()
        finished = False

        def report(done: int, total: int, note: str) -> None:
            nonlocal last, finished
            now = time.monotonic()
            if (done == total and not finished) or now - last >= _PLAIN_INTERVAL_S:
                last, finished = now, done == total
                self.say(f"{description}: {done}/{total} after {now - started:.0f} s  {note}".rstrip())

        return report
