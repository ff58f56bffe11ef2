"""Entry of ``verify.pyz``, where it is called ``__main__.py``. Any Python can read it, to say what is missing."""

import importlib
import sys

if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036 packages travel to hosts of all ages
        sys.exit(
            "error: verify.pyz needs Python 3.10 or newer; " + sys.executable + " is Python " + sys.version.split()[0]
        )
    for name in ("ortnas.bench", "numpy", "onnxruntime", "tokenizers"):  # the first sets up what the others read
        try:
            importlib.import_module(name)
        except Exception as error:  # one that was built for another Python or system fails in many ways
            sys.exit(
                "error: verify.pyz needs onnxruntime, tokenizers and numpy, and " + sys.executable + " cannot import "
                + name + " (" + " ".join((type(error).__name__ + ": " + str(error)).split())[:300]
                + "); install them with: " + sys.executable + " -m pip install onnxruntime tokenizers numpy"
            )  # fmt: skip
    sys.exit(importlib.import_module("ortnas.export.package.verify_command").main())
