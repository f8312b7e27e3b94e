"""What all tests share: where the models are, and that nothing is skipped in silence where it must run."""
from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# Found examples are new on every run of a developer's, and the same on every run of CI.
settings.register_profile("ci", derandomize=True)
if os.environ.get("EDGEC_NO_SKIP"):
    settings.load_profile("ci")

ROOT = Path(__file__).resolve().parent.parent
MODELS = Path(os.environ.get("EDGEC_MODELS", ROOT.parent / "shared" / "models"))
DATA = Path(os.environ.get("EDGEC_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Every test that draws weights with test_quantize.normal draws the same ones, whatever ran before it."""
    drawing = sys.modules.get("test_quantize")
    if drawing is not None:
        drawing.RNG = np.random.default_rng(11)


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of real networks; the test is skipped where it is absent."""
    if not MODELS.is_dir():
        pytest.skip(f"no models at {MODELS}: set EDGEC_MODELS")
    return MODELS


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """With EDGEC_NO_SKIP set, a skip is a failure, except for models and data that are not there."""
    report = (yield).get_result()
    if report.skipped and os.environ.get("EDGEC_NO_SKIP") and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr)
        if "EDGEC_MODELS" not in reason and "EDGEC_DATA" not in reason:
            report.outcome = "failed"
            report.longrepr = f"skipped, and EDGEC_NO_SKIP is set: {reason}"
