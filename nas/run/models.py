"""What a run's training made, and what is built from it: exporters, the anchor, timings of its subnets."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property

from ortnas.bench.request import Request
from ortnas.bench.session import ONNXRUNTIME
from ortnas.bench.store import Measurement, Store
from ortnas.bench.target import Target
from ortnas.export.build import Exporter
from ortnas.export.graph.encoder import weight_products
from ortnas.export.graph.model import LAYOUT_VERSION
from ortnas.export.int8.calibration import calibration_warnings
from ortnas.export.int8.recipes import Recipe, choose_recipe, recipe_named
from ortnas.export.part import Part
from ortnas.export.weights import SupernetFolder, read_supernet
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.arrays import Feeds
from ortnas.nas.console import Console
from ortnas.nas.files import digest
from ortnas.nas.run.configuration import Configuration, ConfigurationError, Quantization
from ortnas.nas.run.fitting_texts import check_lengths
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.target import RunTarget
from ortnas.nas.run.task_data import TaskData
from ortnas.nas.run.texts import Texts

# Texts that calibration runs at a time.
CALIBRATION_BATCH = 16


def recipe_for(
    settings: Quantization,
    dimensions: Dimensions,
    isa: Collection[str],
    named_by: tuple[str, str] = ("quantization.recipe", "quantization.keep_float"),
) -> Recipe:
    """The quantization recipe, named or chosen by a host's instruction sets, with what is configured otherwise.

    Raises ConfigurationError, with the keys or options that settings are ``named_by``, for an unknown name and for
    patterns that fit no weight product.
    """
    recipe_key, pattern_key = named_by
    try:
        named = None if settings.recipe == "auto" else recipe_named(settings.recipe)
    except ValueError as error:
        raise ConfigurationError(f"{recipe_key}: {error}") from None
    products = weight_products(dimensions)
    for pattern in settings.keep_float:
        if not fnmatch.filter(products, pattern):
            raise ConfigurationError(
                f"{pattern_key}: {pattern!r} fits no weight product; they are named like {products[0]} and "
                f"{products[-1]}"
            )
    return replace(named or choose_recipe(isa), **settings.model_dump(exclude={"recipe", "coverage"}))


def searched_products(dimensions: Dimensions, recipe: Recipe) -> list[str]:
    """The weight products that a search may leave in float: those of layers that the recipe does not keep so anyway.

    Raises ConfigurationError where there are none.
    """
    products = [name for name in weight_products(dimensions) if name.startswith("layers/")]
    searched = [name for name in products if not recipe.keeps_float(name)]
    if not searched:
        raise ConfigurationError(
            "space.keep_float = 'search': quantization.keep_float leaves all weight products of the layers in float, "
            "and nothing to decide"
        )
    return searched


class Models:
    """Supernet and teacher as they are now; another training makes others, and needs another ``Models``.

    Each raises SupernetError where it is not trained yet.
    """

    def __init__(
        self,
        configuration: Configuration,
        console: Console,
        run_folder: RunFolder,
        texts: Texts,
        run_target: RunTarget,
    ) -> None:
        self._configuration, self._console = configuration, console
        self._folder, self._texts, self._run_target = run_folder, texts, run_target
        self._left_out = 0

    @cached_property
    def supernet(self) -> SupernetFolder:
        """As it was trained, its space with the products that the search may leave in float."""
        supernet = read_supernet(self._folder.supernet)
        if self._configuration.space.keep_float == "none":
            return supernet
        products = searched_products(supernet.dimensions, self.recipe)
        if self.recipe.keep_float:
            self._console.say(
                f"what fits quantization.keep_float always stays in float; the search decides about {len(products)} "
                f"other weight products"
            )
        return replace(supernet, space=supernet.space.leaving_float(products))

    @cached_property
    def teacher(self) -> SupernetFolder:
        return read_supernet(self._folder.teacher)

    @cached_property
    def target(self) -> Target:
        """The host, session and workloads of the full model. Raises ConfigurationError."""
        return self._run_target.of(self.teacher.dimensions)

    @property
    def request(self) -> Request:
        """What hosts are asked for, beside the run's anchor."""
        return Request(self.anchor, self.target.setup, self.target.workloads, self._run_target.protocol)

    @cached_property
    def recipe(self) -> Recipe:
        """As ``recipe_for``, for the host. Raises ConfigurationError."""
        settings = self._configuration.quantization
        return recipe_for(settings, self.teacher.dimensions, self.target.fingerprint["isa"])

    @cached_property
    def data(self) -> TaskData:
        """The data, if it is what the supernet was trained with: of other splits, it may have seen any part.

        Raises ConfigurationError where data or seed changed since.
        """
        provenance, data = self.supernet.provenance, self._texts.data
        if (provenance.get("splits"), provenance.get("max_length")) != (data.digest, self._texts.max_length):
            raise ConfigurationError("data or seed changed since the supernet was trained; run `ortnas train`")
        return data

    def part(self, name: str, metric: str | None = None) -> Part:
        """As ``Texts.part``, of the data that the supernet was trained with. Raises ConfigurationError."""
        _ = self.data
        return self._texts.part(name, metric)

    @cached_property
    def calibration(self) -> Sequence[Feeds]:
        """Inputs that ranges are measured on; what their choice risks is said once."""
        batches = [feeds for _, feeds in self.data.held_out("calibration").batches(CALIBRATION_BATCH)]
        for warning in calibration_warnings(self._configuration.quantization.calibration, batches):
            self._console.say(f"warning: {warning}")
        return batches

    def exporter_of(self, network: SupernetFolder) -> Exporter:
        """Builds models as this run's are, of any network with its texts. Raises ConfigurationError."""
        check_lengths(self._configuration, self._texts)
        is_fused = self.target.setup.runtime == ONNXRUNTIME
        return Exporter(network, self.recipe, self.calibration, self._configuration.export.inputs, is_fused)

    @cached_property
    def exporter(self) -> Exporter:
        return self.exporter_of(self.supernet)

    @cached_property
    def teacher_exporter(self) -> Exporter:
        return self.exporter_of(self.teacher)

    @cached_property
    def anchor(self) -> bytes:
        """The full teacher at the run's precision: the model that all timings are taken beside."""
        return self.teacher_exporter.build(self.teacher.dimensions.full_subnet, self._configuration.precision)

    def for_timing(self, subnet: Subnet) -> bytes:
        """The subnet's model as it is timed: latency depends on the graph, not on the values in it."""
        precision = self._configuration.precision
        return self.exporter.sliced(subnet) if precision == "int8" else self.exporter.build(subnet, precision)

    @cached_property
    def source(self) -> bytes:
        """The full network ``for_timing``: tensors of those of subnets are slices of its own."""
        return self.for_timing(self.supernet.dimensions.full_subnet)

    @cached_property
    def timed_model(self) -> str:
        """Names what timings depend on beside the subnet: graph, dimensions and recipe, but neither the values of
        weights nor how ranges were found."""
        recipe = {key: value for key, value in self.recipe.to_json().items() if key != "calibration"}
        return digest(LAYOUT_VERSION, self.supernet.dimensions.to_json(), recipe)

    def measurements(self, store: Store) -> list[Measurement]:
        """The store's rows of this target, precision and model.

        Subnets that were in the space once and are not today are left out; how many is said once.
        """
        rows = store.measurements(self.target, self._configuration.precision, self.timed_model)
        space = self.supernet.space
        is_inside = {row.subnet_key: Subnet.from_json(row.subnet) in space for row in rows}
        left_out = len(is_inside) - sum(is_inside.values())
        if left_out > self._left_out:
            self._left_out = left_out
            self._console.say(f"{left_out} timed subnets are not in today's space and are left out")
        return [row for row in rows if is_inside[row.subnet_key]]
