from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.arm64.environment import PROCESSORS, UnavailableError, install


@pytest.fixture(scope="session")
def arm_pythons() -> dict[str, str]:
    """Programs that run Python with ONNX Runtime on Arm, by the name of the processor."""
    folder = os.environ.get("ORTNAS_ARM64")
    if not folder:
        pytest.skip("`make test-arm64` installs emulated Arm machines and runs this on them")
    try:
        return install(Path(folder))
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session", params=PROCESSORS)
def processor(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def arm_python(arm_pythons: dict[str, str], processor: str) -> str:
    return arm_pythons[processor]
