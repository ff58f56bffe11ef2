"""A model on one page: what its file holds, and what ONNX Runtime makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ortnas.bench.session import Setup
from ortnas.bench.timing import Workload
from ortnas.export.inspect.audit import Audit, audit
from ortnas.export.inspect.running import Profile, find_model, profile
from ortnas.nas.console import Console

_LISTED = 20


def inspect_model(path: Path, workload: Workload, setup: Setup, profiled: bool, console: Console) -> dict[str, Any]:
    """Prints an ONNX file's (or package's) inputs, operators, products and weights; profiled, also operators' times.

    Returns the same as a JSON-ready object. Raises InspectionError.
    """
    file = find_model(path)
    audited = audit(file, workload, setup)
    times = profile(file, workload, setup) if profiled else None
    _show_file(file, audited, console)
    _show_operators(audited, console)
    _show_products(audited, console)
    _show_weights(audited, console)
    if times is not None:
        _show_profile(times, console)
    return {
        "file": str(file),
        "workload": {"batch": workload.batch, "sequence": workload.sequence},
        "setup": setup.to_json(),
        **audited.to_json(),
        "profile": None if times is None else times.to_json(),
    }


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.2f}"


def _millions(multiply_adds: int) -> str:
    return f"{multiply_adds / 1e6:.2f}"


def _show_file(file: Path, audited: Audit, console: Console) -> None:
    console.say(f"{file}: {_megabytes(audited.file_bytes)} MB, opset {audited.opset}, IR version {audited.ir_version}")
    for port in audited.inputs:
        console.say(f"  input   {port.describe()}, run as {list(audited.input_shapes[port.name])}")
    for port in audited.outputs:
        console.say(f"  output  {port.describe()}")


def _show_operators(audited: Audit, console: Console) -> None:
    names = [*audited.operators, *(name for name in audited.operators_in_file if name not in audited.operators)]
    rows = [(name, str(audited.operators_in_file.get(name, 0)), str(audited.operators.get(name, 0))) for name in names]
    rows.append(("all", str(sum(audited.operators_in_file.values())), str(sum(audited.operators.values()))))
    console.table("operators", ("operator", "in the file", "as run"), rows)


def _show_products(audited: Audit, console: Console) -> None:
    total = sum(product.multiply_adds for product in audited.products)
    rows = []
    for has_weight, operands in ((True, "with a weight"), (False, "of two activations")):
        for kernel in ("integer", "float"):
            chosen = [item for item in audited.products if item.has_weight == has_weight and item.kernel == kernel]
            multiply_adds = sum(item.multiply_adds for item in chosen)
            share = multiply_adds / total if total else 0.0
            rows.append((f"{kernel}, {operands}", str(len(chosen)), _millions(multiply_adds), f"{share:.4f}"))
    console.table("matrix products", ("kind", "products", "million multiply-adds", "share"), rows)
    console.say(
        f"\nin integer kernels: {audited.integer_share:.4f} of all multiply-adds, {audited.weight_integer_share:.4f} "
        "of those with a weight"
    )
    stayed = sorted(
        (item for item in audited.weight_products if item.kernel == "float"), key=lambda item: -item.multiply_adds
    )
    _list(
        "stayed float",
        [f"{item.name} ({item.operator}, {_millions(item.multiply_adds)} M): {item.reason}" for item in stayed],
        console,
    )
    _list("not counted", [f"{node.name} ({node.operator}): {node.reason}" for node in audited.uncounted], console)


def _list(title: str, lines: list[str], console: Console) -> None:
    if not lines:
        return
    console.say(f"\n{title}:")
    for line in lines[:_LISTED]:
        console.say(f"  {line}")
    if len(lines) > _LISTED:
        console.say(f"  and {len(lines) - _LISTED} more")


def _show_weights(audited: Audit, console: Console) -> None:
    rows = [(name, _megabytes(size_bytes)) for name, size_bytes in audited.weight_bytes.items()]
    console.table("weights in the file", ("type", "MB"), rows)


def _show_profile(times: Profile, console: Console) -> None:
    rows = [
        (row.operator, f"{row.kernels:g}", f"{row.time_ms:.3f}", f"{times.share(row):.4f}") for row in times.operators
    ]
    console.table("time by operator", ("operator", "kernels a run", "ms a run", "share"), rows)
    console.say(
        f"\n{times.kernels_ms:.3f} ms in kernels of {times.wall_ms:.3f} ms a run, mean of {times.runs} runs; profiling "
        "itself slows them"
    )
