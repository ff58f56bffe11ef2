"""One subnet of the supernet -> trained further, compared with what it was, and packaged; or extracted as it is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from export.build import Exporter, model_outputs
from export.metrics import METRICS
from export.weights import SupernetFolder, read_supernet
from nas.configuration import ConfigurationError, Refinement
from nas.extraction import extract
from nas.files import digest, write_json
from nas.run import Run
from nas.space import Subnet
from nas.stages.comparison import Entry, compare, package, show
from nas.stages.export import announce
from nas.stages.fit import budget_in_ms
from nas.stages.subnet import find_subnet
from nas.stages.train import course, load_network, losses_under, make_batches, prove_equal, recorded


def refine(run: Run, name: str) -> dict[str, Any]:
    """Trains one subnet further with the supernet's losses and teacher, and packages it."""
    settings = run.configuration.refinement
    subnet = find_subnet(run, name)
    run.supernet.dimensions.check(subnet)
    run.console.heading(
        f"train: subnet {subnet.key} further",
        f"{subnet.describe()}. Alone it learns what it could not while it shared its weights"
        + (", with the quantizer's rounding in the loop." if settings.quantization_aware else "."),
    )
    folder = refined_folder(run, subnet, settings.quantization_aware)
    inputs = digest(run.supernet.digest, subnet.key, *training_identity(run, settings))
    if recorded(folder, "inputs") != inputs:
        _train(run, subnet, folder, inputs, settings)
    if run.rank:
        return {}  # the first process packages for all
    return _package(run, name, subnet, read_supernet(folder))


def refined_folder(run: Run, subnet: Subnet, quantization_aware: bool) -> Path:
    return run.folder / "refined" / f"{subnet.key}{'-quantization-aware' * quantization_aware}"


def _losses(run: Run) -> dict[str, float]:
    return losses_under(run.configuration, run.supernet.provenance.get("activation"))


def training_identity(run: Run, settings: Refinement) -> list[Any]:
    """What further training depends on beside supernet and subnet, ready for JSON."""
    training = run.configuration.training
    return [
        settings.model_dump(),
        _losses(run),
        training.batch_size,
        training.mixed_precision,
        run.recipe.to_json() if settings.quantization_aware else None,
        run.configuration.seed,
    ]


def fitness_settings(run: Run) -> Refinement:
    """How a candidate is trained before it is scored."""
    steps = run.configuration.search.fitness_steps
    return run.configuration.refinement.model_copy(update={"steps": steps, "quantization_aware": False})


def score_after_training(run: Run, subnet: Subnet) -> float:
    """What the search ranks by, on its part, after ``search.fitness_steps`` of training this subnet alone."""
    settings = fitness_settings(run)
    folder = run.training_folder / f"fitness-{subnet.key}"
    try:
        inputs = digest(run.supernet.digest, subnet.key, *training_identity(run, settings))
        _train(run, subnet, folder, inputs, settings)
        exporter = Exporter(read_supernet(folder), run.recipe, run.calibration)
        part = run.part("search")
        outputs = model_outputs(
            exporter.build(subnet, run.configuration.precision), part.encoded, run.configuration.head
        )
        return METRICS[run.search_metric](outputs, part)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _train(run: Run, subnet: Subnet, folder: Path, inputs: str, settings: Refinement) -> None:
    from nas.batches import to_tensors
    from nas.engine import StateFiles, choose_accelerator
    from nas.fake_quantization import FakeQuantization
    from nas.objective import Objective
    from nas.probes import held_out_probe
    from nas.supernet import save_supernet
    from nas.training import train_supernet

    training = run.configuration.training
    data = run.trained_data
    accelerator = choose_accelerator(training.mixed_precision)
    network, teacher = load_network(run.supernet_folder), load_network(run.teacher_folder)
    quantization = None
    if settings.quantization_aware:
        sample = data.held_out("calibration")
        batches = [to_tensors(sample, rows) for rows, _ in sample.batches(training.batch_size)]
        quantization = FakeQuantization(run.recipe, batches, subnet, training.checkpoint_every)
    objective = Objective(_losses(run), network.dimensions)
    states = StateFiles(run.training_folder, "subnet", inputs)
    part = run.part_of(data, "search")
    probe = held_out_probe(network, part, run.metric, training.probe_texts, {"subnet": subnet})
    course_batches = make_batches(run, data, accelerator, settings.steps, settings.learning_rate)
    with course(run, f"subnet-{subnet.key}", accelerator, course_batches, states, probe, ("subnet",)) as path:
        train_supernet(network, teacher, objective, [[subnet]] * settings.steps, path, quantization)
    network.cpu()
    if accelerator.is_main_process:
        prove_equal(network, [subnet], data)
        provenance = run.supernet.provenance | {
            "inputs": inputs,
            "subnet": subnet.to_json(),
            "refinement": settings.model_dump(),
        }
        space, labels = run.supernet.space, run.supernet.labels
        save_supernet(folder, network, space, labels, run.tokenizer_folder, provenance)
        states.clear()
        run.event("refine", inputs=inputs, subnet_key=subnet.key, steps=settings.steps)


def _package(run: Run, name: str, subnet: Subnet, refined: SupernetFolder) -> dict[str, Any]:
    """The subnet before and after, side by side; the later one as a package."""
    precision = run.configuration.precision
    exporter = Exporter(refined, run.recipe, run.calibration)
    before = Entry(f"{subnet.key} in the supernet", run.exporter, subnet, precision)
    after = Entry(f"{subnet.key} trained further", exporter, subnet, precision)
    rows = compare(run, [before, after])
    show(run, rows)
    package_name = f"{precision}-{refined.path.name}"
    is_budget = run.search_folder(name).is_dir()
    full_ms = next(row["measured_ms"] for row in rows if row["name"] == f"full model, {precision.upper()}")
    budget_ms = budget_in_ms(name, full_ms) if is_budget else None
    package(run, package_name, after, rows[-1], {"budget": name if is_budget else None, "budget_ms": budget_ms})
    folder = run.packages_folder / package_name
    write_json(run.packages_folder / f"comparison-{package_name}.json", {"rows": rows, "metric": run.metric})
    announce(run, [folder])
    return {"rows": rows, "packages": [str(folder)], "subnet_key": subnet.key}


def extract_subnet(run: Run, name: str, folder: Path) -> dict[str, Any]:
    """Writes a subnet as a transformers checkpoint: trained further where it was, else as in the supernet."""
    subnet = find_subnet(run, name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"--out {folder}: exists and is not empty")
    # Training with the quantizer's rounding makes weights for the quantized network, not for a float checkpoint.
    candidates = [refined_folder(run, subnet, False), run.supernet_folder]
    source = next(path for path in candidates if path == run.supernet_folder or recorded(path, "inputs"))
    supernet = read_supernet(source)
    staging = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    extract(supernet, subnet, staging, run.max_length)
    if folder.exists():
        folder.rmdir()
    staging.rename(folder)
    run.console.say(subnet.describe())
    run.console.say(f"from {source}")
    run.console.say(f"to {folder}: transformers.AutoModel.from_pretrained({str(folder)!r})")
    return {"subnet_key": subnet.key, "source": str(source), "folder": str(folder)}
