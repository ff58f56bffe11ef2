"""``ortnas`` itself: its commands, and what it says without one."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ortnas.bench.conditions import usable_processors
from ortnas.nas.cli import checks, quantize, stages, subnets, timings

# As in bench, which other imports of onnxruntime may come before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# numpy's products start a thread for each processor, whatever the control group's quota is.
os.environ.setdefault("OPENBLAS_NUM_THREADS", str(usable_processors()))

# In the order of the help.
_COMMANDS = {
    "INT8 alone, in seconds": (quantize.quantize,),
    "The stages, in order": (
        stages.init,
        stages.run,
        stages.data,
        stages.train,
        timings.bench,
        timings.fit,
        stages.search,
        stages.refine,
        stages.export,
    ),
    "Looking at what there is": (checks.verify, checks.report, checks.doctor, checks.inspect),
    "One subnet": (subnets.extract, subnets.sensitivity),
}
_FIRST_STEPS = """\
ortnas finds the most accurate BERT-family encoder that runs INT8 under a latency budget on your machine.

  1. ortnas init run.yaml --checkpoint CHECKPOINT --data TEXTS    write a commented configuration
  2. ortnas run run.yaml                                          train, time, search, package; run it again to go on
  3. ortnas report runs/run                                       everything that was found, as one page
  4. ortnas verify runs/run/packages/int8-2x                      check a package on the machine where it will serve

`ortnas quantize CHECKPOINT --data TEXTS --out FOLDER` makes an INT8 package of a checkpoint as it is, in seconds.
CHECKPOINT is a folder or a hub name, TEXTS a file with a text a line, or a folder with train.tsv and dev.tsv.
`ortnas doctor` tells what this machine does to timings; `ortnas inspect MODEL.onnx` what runs in integers.
Help: `ortnas --help` lists all commands, `ortnas COMMAND --help` explains one."""

app = typer.Typer(
    help="Find the most accurate BERT-family encoder that runs INT8 under a latency budget on your machine.",
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"ortnas {installed('ortnas')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(_FIRST_STEPS)


for panel, commands in _COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
