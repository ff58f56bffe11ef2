"""What of a model runs in integer kernels, as its package records it."""

from __future__ import annotations

from ortnas.bench.session import PROVIDERS, Setup
from ortnas.bench.target import Target
from ortnas.export.build import Precision
from ortnas.export.graph.heads import FLOAT_PRODUCTS
from ortnas.export.inspect.audit import audit, check_coverage
from ortnas.export.int8.recipes import Recipe
from ortnas.export.package.record import Coverage


def measure_coverage(model: bytes, precision: Precision, target: Target, recipe: Recipe, demanded: float) -> Coverage:
    """``demanded``: the share of the weight products' multiply-adds that INT8 models have to run in integer kernels,
    beside the products that the recipe keeps in float.

    Raises CoverageError below it. Other providers than the CPU's, and OpenVINO, hide their kernels: nothing is
    demanded there, and the shares are those of ONNX Runtime.
    """
    audited = audit(model, target.main_workload, Setup(threads=target.setup.threads))
    threshold = None
    if precision == "int8" and target.setup.provider == PROVIDERS["cpu"]:
        threshold = demanded
        check_coverage(audited, threshold, (*recipe.keep_float, *FLOAT_PRODUCTS))
    return Coverage(
        threshold=threshold,
        integer_share=audited.integer_share,
        weight_integer_share=audited.weight_integer_share,
        operators=audited.operators,
        float_weight_products=[item.name for item in audited.weight_products if item.kernel == "float"],
    )
