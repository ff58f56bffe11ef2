"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CONFIGURATION_HELP = "A run: its run.yaml, which `ortnas init` writes, or its folder."
SUBNET_HELP = "A budget with a winner (2x), a subnet's key, or a JSON file with a subnet."

ConfigurationArgument = Annotated[Path, typer.Argument(help=CONFIGURATION_HELP)]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. --set training.steps=500.")
]
SubnetOption = Annotated[str | None, typer.Option(help=SUBNET_HELP)]
CheckpointOption = Annotated[str | None, typer.Option(help="Local folder or hub name in place of the configured one.")]
DataOption = Annotated[str | None, typer.Option(help="Data source in place of the configured one.")]
FolderOption = Annotated[str | None, typer.Option(help="Run folder in place of the configured one.")]
BudgetOption = Annotated[
    list[str] | None, typer.Option(help="Budget: ms as 6.5, a speed-up as 2x, requests a second as 400/s.")
]
CompareOption = Annotated[
    list[str] | None, typer.Option(help="A ready-made checkpoint to compare the winners with; several times.")
]
PrecisionOption = Annotated[str | None, typer.Option(help="int8 or fp32.")]
HostOption = Annotated[
    str | None, typer.Option(help="local, simulated, stored:NAME, or what ssh connects to, such as user@pi.")
]
TaskOption = Annotated[
    str | None, typer.Option(help="A GLUE task, squad or squad_v2: files, columns, head and metric.")
]
TextOption = Annotated[str | None, typer.Option(help="The column of the texts, where its name is not a usual one.")]
PairOption = Annotated[str | None, typer.Option(help="The column of the second texts, likewise.")]
LabelOption = Annotated[str | None, typer.Option(help="The column of the labels, likewise.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, the rest on stderr.")]
