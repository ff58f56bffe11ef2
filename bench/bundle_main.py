"""Entry of a bundle, where it is called ``__main__.py``. Any Python can read it, to say what is missing."""

import importlib
import sys

if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036 bundles travel to hosts of all ages
        sys.exit("error: this bundle needs Python 3.10 or newer; this is Python " + sys.version.split()[0])
    try:
        for name in ("bench", "numpy", "onnxruntime"):  # the first sets up what the last reads
            importlib.import_module(name)
    except ImportError as error:
        sys.exit(
            "error: this bundle needs numpy and onnxruntime: " + str(error).strip().splitlines()[0] + "; install them"
            " with: " + sys.executable + " -m pip install numpy onnxruntime"
        )
    sys.exit(importlib.import_module("bench.bundle_run").main())
