"""edgec compiles ONNX models to self-contained C99 for microcontrollers.

import edgec
result = edgec.build("kws.onnx", board="cortex-m4", data="calibration.npz")
edgec.validate(result.directory, on=("host", "qemu"), data="test.npz")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .api import AnalyzeResult, BuildResult, QuantizeResult, analyze, build, check, quantize, validate
    from .errors import EdgecError
    from .quantisation.recipe import Recipe
    from .validation import Tolerance, ValidationResult

_WHERE = {
    "build": "api",
    "analyze": "api",
    "check": "api",
    "quantize": "api",
    "validate": "api",
    "BuildResult": "api",
    "AnalyzeResult": "api",
    "QuantizeResult": "api",
    "Recipe": "quantisation.recipe",
    "Tolerance": "validation",
    "ValidationResult": "validation",
    "EdgecError": "errors",
}
__all__ = [
    "AnalyzeResult",
    "BuildResult",
    "EdgecError",
    "QuantizeResult",
    "Recipe",
    "Tolerance",
    "ValidationResult",
    "__version__",
    "analyze",
    "build",
    "check",
    "quantize",
    "validate",
]


def __getattr__(name: str):
    """Imports on first use, so that `import edgec` and `edgec --help` are fast."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_WHERE[name]}", __name__), name)
