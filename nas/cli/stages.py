"""The stages of a run that have no file of their own here: init, run, data, train, search, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ortnas.nas.architecture.heads import HEAD_CHOICES
from ortnas.nas.cli.execution import execute, guarded, quoted
from ortnas.nas.cli.options import (
    SUBNET_HELP,
    BudgetOption,
    CheckpointOption,
    CompareOption,
    ConfigurationArgument,
    DataOption,
    FolderOption,
    HostOption,
    JsonOption,
    LabelOption,
    PairOption,
    PrecisionOption,
    SetOption,
    SubnetOption,
    TaskOption,
    TextOption,
)

if TYPE_CHECKING:
    from ortnas.nas.run.run import Run


def init(
    path: Annotated[Path, typer.Argument(help="Where to write the configuration.")] = Path("run.yaml"),
    checkpoint: Annotated[str, typer.Option(help="BERT checkpoint: local folder or hub name.")] = "",
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="File with a sentence a line (for embeddings several), or folder with train.tsv and dev.tsv (or .csv, "
            ".jsonl); several labels a text, and queries with passages, are recognised."
        ),
    ] = None,
    head: Annotated[str | None, typer.Option(help=f"{HEAD_CHOICES}.")] = None,
    task: TaskOption = None,
    text: TextOption = None,
    pair: PairOption = None,
    label: LabelOption = None,
    budget: BudgetOption = None,
    force: Annotated[bool, typer.Option(help="Overwrite an existing file.")] = False,
) -> None:
    """Write a commented run.yaml; head and columns are those that the data tells."""

    def action() -> None:
        from ortnas.nas.data import Asked
        from ortnas.nas.run.starter import write_starter

        source, *further = data or [""]
        asked = Asked(head, text, pair, label)
        budgets = tuple(budget or ("2x",))
        for sentence in write_starter(path, checkpoint, source, asked, budgets, force, task, further):
            typer.echo(f"note: {sentence}", err=True)
        typer.echo(f"wrote {path}\nnext: ortnas run {quoted(path)}")

    guarded(action)


def run(
    configuration: ConfigurationArgument,
    checkpoint: CheckpointOption = None,
    data: DataOption = None,
    folder: FolderOption = None,
    budget: BudgetOption = None,
    precision: PrecisionOption = None,
    compare: CompareOption = None,
    minutes: Annotated[
        float | None, typer.Option(help="What all stages together may take; the plan is shown first.")
    ] = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """All stages, from checkpoint to packages. Run it again to go on after an interruption."""
    overrides = {
        "checkpoint": checkpoint,
        "data.source": data,
        "folder": folder,
        "search.budgets": budget,
        "precision": precision,
        "compare": compare,
        "training.minutes": minutes,
    }
    execute("run", configuration, overrides, assignments, as_json)


def data(
    configuration: ConfigurationArgument,
    source: Annotated[
        str | None, typer.Option("--source", "--data", help="Data source in place of the configured one.")
    ] = None,
    folder: FolderOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prepare the data: read, split, encode, and show what is there."""
    execute("data", configuration, {"data.source": source, "folder": folder}, assignments, as_json)


def train(
    configuration: ConfigurationArgument,
    checkpoint: CheckpointOption = None,
    data: DataOption = None,
    folder: FolderOption = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a supernet from the checkpoint and train it."""
    overrides = {"checkpoint": checkpoint, "data.source": data, "folder": folder, "training.steps": steps}
    execute("train", configuration, overrides, assignments, as_json)


def refine(
    configuration: ConfigurationArgument,
    folder: FolderOption = None,
    budget: BudgetOption = None,
    precision: PrecisionOption = None,
    host: HostOption = None,
    steps: Annotated[int | None, typer.Option(help="Steps of each winner; 0 leaves it as it is.")] = None,
    quantization_aware: Annotated[
        bool | None, typer.Option("--quantization-aware", help="Round as the quantizer will, at the end.")
    ] = None,
    subnet: SubnetOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the winners alone; with --subnet, train one subnet, compare it and package it."""
    overrides = {
        "folder": folder,
        "search.budgets": budget,
        "precision": precision,
        "target.host": host,
        "refinement.steps": steps,
        "refinement.quantization_aware": quantization_aware,
    }
    if subnet is None:
        execute("refine", configuration, overrides, assignments, as_json)
        return

    def train_subnet(run: Run) -> dict[str, Any]:
        from ortnas.nas.stages.commands import refine_subnet

        return refine_subnet(run, subnet)

    execute("refined", configuration, overrides, assignments, as_json, train_subnet)


def search(
    configuration: ConfigurationArgument,
    folder: FolderOption = None,
    budget: BudgetOption = None,
    precision: PrecisionOption = None,
    host: HostOption = None,
    method: Annotated[
        str | None, typer.Option(help="Where subnets come from: evolution, random, fast or evolved.")
    ] = None,
    goal: Annotated[str | None, typer.Option(help="budget: a search for each; front: one search for all.")] = None,
    candidates: Annotated[
        int | None, typer.Option(min=1, help="List so many subnets within the first budget instead, unscored.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="Where candidates are scored: local, or ray (extra `ray`).")
    ] = None,
    cluster: Annotated[str | None, typer.Option(help="Address of a running Ray cluster, such as auto.")] = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search the best subnet under each budget."""
    overrides = {
        "folder": folder,
        "search.budgets": budget,
        "precision": precision,
        "target.host": host,
        "search.method": method,
        "search.goal": goal,
        "search.engine": engine,
        "search.cluster": cluster,
    }
    if candidates is None:
        execute("search", configuration, overrides, assignments, as_json)
        return

    def listed(run: Run) -> dict[str, Any]:
        from ortnas.nas.stages.commands import list_within_budget

        return list_within_budget(run, candidates)

    execute("candidates", configuration, overrides, assignments, as_json, listed, only_looks=True)


def export(
    configuration: ConfigurationArgument,
    folder: FolderOption = None,
    budget: BudgetOption = None,
    precision: PrecisionOption = None,
    host: HostOption = None,
    compare: CompareOption = None,
    subnet: Annotated[
        list[str] | None, typer.Option(help=f"Package this one instead of the winners; several times. {SUBNET_HELP}")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where each package becomes a folder; packages/ in the run folder by default.")
    ] = None,
    push_to_hub: Annotated[
        str | None,
        typer.Option("--push-to-hub", metavar="NAME", help="Upload as this Hugging Face model, private if it is new."),
    ] = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Package the winners, or any other subnets, and compare them with the full model."""
    if subnet and budget:
        raise typer.BadParameter("not both: a budget can be named as --subnet", param_hint="--subnet, --budget")
    overrides = {
        "folder": folder,
        "search.budgets": budget,
        "precision": precision,
        "target.host": host,
        "compare": compare,
    }

    def make(run: Run) -> dict[str, Any]:
        from ortnas.nas.stages.commands import deliver

        return deliver(run, subnet or [], out, push_to_hub)

    execute("export", configuration, overrides, assignments, as_json, make)
