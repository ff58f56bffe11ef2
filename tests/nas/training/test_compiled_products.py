from __future__ import annotations

import os
import subprocess
import sys

import pytest

VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
PROGRAM = f"import os, ortnas.nas.training; print(os.environ[{VARIABLE!r}])"


@pytest.mark.parametrize(("own", "expected"), [({}, "8192"), ({VARIABLE: "7"}, "7")])
def test_onednn_keeps_products_of_many_shapes_unless_told_otherwise(own: dict[str, str], expected: str) -> None:
    variables = {key: value for key, value in os.environ.items() if key != VARIABLE} | own
    output = subprocess.run([sys.executable, "-c", PROGRAM], env=variables, check=True, stdout=subprocess.PIPE).stdout
    assert output.decode().strip() == expected
