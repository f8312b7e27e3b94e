"""Writes the hand-made package of tests/dummy, as `edgec build` would write it, for a board."""
import shutil
from pathlib import Path

import numpy as np

from edgec import board, firmware, paths

HERE = Path(__file__).parent / "dummy"
WEIGHTS = np.array([1, -2, 3, -4, 5, -6, 7, -8, 127, -128, 11, 12, -13, 14, 15, 16, 17, 18, 19, -20, 21, 22, 23, 24])


def write(folder: Path, b: board.Board, edit: tuple[str, str] | None = None, name: str = "dummy") -> Path:
    """edit: (old, new) text of the model's C files, to break them; name: another C name."""
    (folder / "runtime").mkdir(parents=True)
    used = False
    for source in sorted(HERE.iterdir()):
        text = source.read_text()
        if edit and edit[0] in text:
            text, used = text.replace(*edit), True
        text = text.replace("dummy", name).replace("DUMMY", name.upper())
        (folder / source.name.replace("dummy", name)).write_text(text)
    assert used or not edit, "the text to replace is not there"
    shutil.copy(paths.data("runtime_c") / "ec.h", folder / "runtime")
    (folder / "runtime" / "ec_simd.h").write_text("#define EC_SIMD 1\n")
    for path, text in firmware.files(b, name, name).items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    return folder


def samples(n: int, seed: int = 0) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [[rng.integers(-128, 128, (3, 8)).astype(np.int8), rng.normal(size=6).astype(np.float32)]
            for _ in range(n)]


def raw(sample: list[np.ndarray]) -> list[bytes]:
    return [a.tobytes() for a in sample]


def columns(image: np.ndarray) -> np.ndarray:
    """What output 0 must be: the dot product per column, requantised with m = 2^30, f = 8, zero point -1."""
    sums = (image.astype(np.int64) * WEIGHTS.reshape(3, 8)).sum(0)
    return np.clip(((sums * 2**30 >> 32) - 256 + 128) >> 8, -128, 127).astype(np.int8)
