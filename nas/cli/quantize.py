"""The command for those who want INT8 alone: quantize."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ortnas.export.int8.recipes import Attention
from ortnas.nas.architecture.heads import HEAD_CHOICES
from ortnas.nas.cli.execution import guarded, quoted, say_next
from ortnas.nas.cli.options import JsonOption, LabelOption, PairOption, TaskOption, TextOption
from ortnas.nas.run.limits import MOST_THREADS, MOST_TOKENS, check_request

if TYPE_CHECKING:
    from ortnas.nas.stages.quantize import Order

_NOT_PASSED = 3
_LEAST_TOKENS = 8


def quantize(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint: folder, hub name or package:NAME/FOLDER.")],
    out: Annotated[Path, typer.Option(help="Folder of the package: new, empty, or an earlier one of this command.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="Texts to measure ranges on, and to score on, with labels or without: a file with a text a line, a "
            "table, or a folder with a training and a dev file."
        ),
    ] = None,
    head: Annotated[str | None, typer.Option(help=f"{HEAD_CHOICES}; by default the checkpoint's own.")] = None,
    task: TaskOption = None,
    text: TextOption = None,
    pair: PairOption = None,
    label: LabelOption = None,
    max_loss: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Write no package where the score falls by more, in points as 0.5% or 0.005, and name the products to "
            "blame; exit status 3.",
        ),
    ] = None,
    with_fp32: Annotated[bool, typer.Option("--with-fp32", help="A float package too, as OUT-fp32.")] = False,
    max_length: Annotated[
        int | None,
        typer.Option(min=_LEAST_TOKENS, max=MOST_TOKENS, help="Tokens of a text at most; as the checkpoint says."),
    ] = None,
    sequence: Annotated[
        int | None, typer.Option(min=1, max=MOST_TOKENS, help="Tokens of a timed request; 128 by default.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=MOST_THREADS, help="Threads of the timed sessions.")] = 1,
    recipe: Annotated[
        str, typer.Option(help="Quantization recipe of an instruction set; auto asks this machine.")
    ] = "auto",
    keep_float: Annotated[
        list[str] | None,
        typer.Option("--keep-float", help="Pattern of weight products that stay in float, as head/*; several times."),
    ] = None,
    attention: Annotated[
        Attention,
        typer.Option(
            help="Which products of two activations run in integers: float for none, scores, mixtures, or integer for "
            "both."
        ),
    ] = "float",
    shapes: Annotated[
        str | None,
        typer.Option(metavar="BATCHxTOKENS", help="Batch and tokens of all requests, as 1x128: it takes no others."),
    ] = None,
    no_mask: Annotated[
        bool, typer.Option("--no-mask", help="A model for requests without padding, such as one text each.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make an INT8 package of a checkpoint as it is, in seconds, and time it beside what others make of it.

    Exit status: 0 done, 1 failed, 3 where it loses more than --max-loss allows.
    """
    bound = None if max_loss is None else _share(max_loss)
    fixed_shapes = None if shapes is None else _shapes(shapes)
    if bound is not None and data is None:
        raise typer.BadParameter("needs --data: without texts nothing tells what is lost", param_hint="--max-loss")

    def action() -> None:
        from ortnas.export.graph.inputs import ModelInputs
        from ortnas.nas.console import Console
        from ortnas.nas.data import Asked
        from ortnas.nas.stages.quantize import Order
        from ortnas.nas.stages.quantize import quantize as quantize_checkpoint
        from ortnas.nas.stages.quantize_texts import TextChoice

        order = Order(
            checkpoint=checkpoint,
            texts=TextChoice(data, Asked(head, text, pair, label), task),
            out=out,
            max_length=max_length,
            sequence=sequence,
            threads=threads,
            recipe=recipe,
            keep_float=tuple(keep_float or ()),
            attention=attention,
            inputs=ModelInputs(fixed_shapes, not no_mask),
            with_fp32=with_fp32,
            max_loss=bound,
        )
        console = Console(to_stderr=as_json)
        result = quantize_checkpoint(order, console)
        if as_json:
            typer.echo(json.dumps(result))
        else:
            say_next(console.say, _following(order, result))
        if result["gate"] is not None and not result["gate"]["is_passed"]:
            raise typer.Exit(_NOT_PASSED)

    guarded(action, "interrupted; no package was written, and an earlier one is as it was")


def _share(text: str) -> float:
    """``0.5%`` or ``0.005``."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise typer.BadParameter(f"{text} is no share; write 0.5% or 0.005", param_hint="--max-loss")
    return value


def _shapes(text: str) -> tuple[int, int]:
    """``1x128``: batch and tokens."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise typer.BadParameter(f"{text} is no shape; write BATCHxTOKENS, as 1x128", param_hint="--shapes")
    batch, tokens = map(int, parts)
    if batch < 1 or not _LEAST_TOKENS <= tokens <= MOST_TOKENS:
        raise typer.BadParameter(
            f"{text}: a request has a text or more, of {_LEAST_TOKENS} to {MOST_TOKENS} tokens", param_hint="--shapes"
        )
    try:
        check_request(batch, tokens)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--shapes") from None
    return batch, tokens


def _following(order: Order, result: Mapping[str, Any]) -> str:
    """The command that makes the model smaller too; where the gate was not passed, the one that passes it."""
    gate = result["gate"]
    if gate is None or gate["is_passed"]:
        return _make_smaller(order, str(result["head"]), bool(result["texts"]["are_labelled"]))
    if not gate["keep_float"]:
        return "`ortnas run`, then `ortnas refine --quantization-aware`, trains a model that INT8 costs less"
    options = _text_options(order) | {
        "--max-loss": order.max_loss,
        "--max-length": order.max_length,
        "--sequence": order.sequence,
        "--threads": order.threads,
        "--recipe": order.recipe,
        "--attention": order.attention,
        "--shapes": None if order.inputs.shapes is None else "{}x{}".format(*order.inputs.shapes),
        "--out": order.out,
    }
    words = ["ortnas", "quantize", order.checkpoint, *_words(options)]
    words += [word for product in gate["keep_float"] for word in ("--keep-float", product)]
    flags = {"--with-fp32": order.with_fp32, "--no-mask": not order.inputs.mask}
    return " ".join(map(quoted, [*words, *(flag for flag, is_set in flags.items() if is_set)]))


def _make_smaller(order: Order, head: str, are_labelled: bool) -> str:
    """``ortnas init`` and ``run`` for the same checkpoint and texts; where a run needs other texts, they are named."""
    from ortnas.nas.architecture.heads import HEADS

    run = f"{order.out.resolve().name}.yaml"
    needs_folder = HEADS[head].has_labels and not HEADS[head].fills_masks
    source = order.texts.source
    options: dict[str, Any] = {"--checkpoint": order.checkpoint}
    if source is None or (needs_folder and (not are_labelled or Path(source).expanduser().is_file())):
        options |= {"--head": head, "--data": "FOLDER" if needs_folder else "TEXTS"}
    else:
        options |= {"--head": head} | _text_options(order)
    init = " ".join(map(quoted, ["ortnas", "init", run, *_words(options)]))
    return f"{init} && ortnas run {quoted(run)} --minutes 60 makes it smaller as well"


def _text_options(order: Order) -> dict[str, Any]:
    asked = order.texts.asked
    options = {
        "--data": order.texts.source,
        "--head": asked.head,
        "--task": order.texts.task,
        "--text": asked.text,
        "--pair": asked.pair,
        "--label": asked.label,
    }
    return {option: value for option, value in options.items() if value is not None}


def _words(options: Mapping[str, Any]) -> list[str]:
    return [word for option, value in options.items() if value is not None for word in (option, str(value))]
