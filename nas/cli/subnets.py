"""Commands about one subnet: extract and sensitivity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ortnas.nas.cli.execution import command_line, execute, quoted
from ortnas.nas.cli.options import SUBNET_HELP, ConfigurationArgument, FolderOption, JsonOption, SetOption

if TYPE_CHECKING:
    from ortnas.nas.run.run import Run


def extract(
    configuration: ConfigurationArgument,
    subnet: Annotated[str, typer.Option(help=SUBNET_HELP)],
    out: Annotated[Path, typer.Option(help="Folder to write; must be new or empty.")],
    folder: FolderOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a subnet as a plain transformers checkpoint, where its shape allows."""

    def write(run: Run) -> dict[str, Any]:
        from ortnas.nas.stages.commands import extract_subnet

        return extract_subnet(run, subnet, out)

    again = command_line("export", configuration, {"folder": folder}, assignments)
    following = f"{again} --subnet {quoted(subnet)} for the same subnet in ONNX"
    execute("extract", configuration, {"folder": folder}, assignments, as_json, write, lambda _: following)


def sensitivity(
    configuration: ConfigurationArgument,
    subnet: Annotated[str | None, typer.Option(help=f"{SUBNET_HELP} The full model if not given.")] = None,
    tolerance: Annotated[float, typer.Option(min=0, max=1e6, help="How far below fp32's score to stop.")] = 0.0,
    limit: Annotated[int, typer.Option(min=1, help="How many products to leave in float at most.")] = 6,
    budget: Annotated[
        str | None, typer.Option(help="To keep: ms as 6.5, a speed-up as 2x, requests a second as 400/s.")
    ] = None,
    folder: FolderOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure which weight products lose score in INT8, and which to leave in float."""

    def measure(run: Run) -> dict[str, Any]:
        from ortnas.nas.stages.commands import sensitivity as search_products

        return search_products(run, subnet, tolerance, limit, budget)

    again = command_line("run", configuration, {"folder": folder}, assignments)
    following = f"{again}, with quantization.keep_float as found"
    execute("sensitivity", configuration, {"folder": folder}, assignments, as_json, measure, lambda _: following)
