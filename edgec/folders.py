"""Samples from a folder of files with a declared preparation, or from a Python function.

A declaration is a TOML file:

    folder = "pictures"          # beside the TOML file; searched with its subfolders, in the order of the names
    files = "*.png"              # default: every file of a known kind (.npy .csv .wav .ppm .pgm .png .jpg .bmp)
    labels = "folders"           # or a CSV file of lines `file,class`; default: none
    resize = [96, 96]            # pictures: height, width
    grey = false                 # pictures: one channel
    length = 16000               # sound: samples per file; what is missing is silence, what is more is cut
    rate = 16000                 # sound: the sampling rate that every file must have
    scale = 0.00392156862        # then (value * scale - mean) / std, mean and std per channel or for all
    mean = [0.485, 0.456, 0.406]
    std = [0.229, 0.224, 0.225]

Pictures are 0..255, sound -1..1, before `scale`. Channels go where the model's input has them.
"""
from __future__ import annotations

import csv
import importlib
import sys
import tomllib
import wave
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from .errors import UsageError

Array = np.ndarray
PICTURES = (".ppm", ".pgm", ".png", ".jpg", ".jpeg", ".bmp")
KINDS = (".npy", ".csv", ".wav", *PICTURES)
KEYS = ("folder", "files", "labels", "resize", "grey", "length", "rate", "scale", "mean", "std")


def from_function(name: str) -> dict[str, Array]:
    """What `module:function` returns: arrays by input name (and `labels`), or one array, samples first. The module is
    searched for in the working directory first. UsageError: there is no such function, or it fails."""
    module, _, function = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        made = getattr(importlib.import_module(module), function)()
    except Exception as e:        # the user's own code: whatever it raises
        raise UsageError(f"the samples cannot be made: {type(e).__name__}: {e}", where=name,
                         fix="write a function without arguments that returns arrays by input name") from e
    finally:
        sys.path.remove(str(Path.cwd()))
    return {k: np.asarray(v) for k, v in made.items()} if isinstance(made, Mapping) else {"data": np.asarray(made)}


def from_declaration(path: Path, shape: tuple[int, ...]) -> dict[str, Array]:
    """The arrays `data` and, where declared, `labels` of a TOML declaration. shape: of the model's only input."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise UsageError(f"the declaration cannot be read: {e}", where=str(path), fix="see edgec/folders.py") from None
    wrong = [k for k in given if k not in KEYS]
    if wrong or "folder" not in given:
        raise UsageError(f"unknown key '{wrong[0]}'" if wrong else "there is no key 'folder'", where=str(path),
                         fix="choose from: " + ", ".join(KEYS))
    return from_folder(path.parent / given["folder"], given, shape)


def from_folder(folder: Path, options: Mapping, shape: tuple[int, ...]) -> dict[str, Array]:
    """The arrays `data` and, where asked for, `labels`. options: the keys of a declaration."""
    files = sorted(p for p in folder.rglob(options.get("files", "*")) if p.suffix.lower() in KINDS)
    labels = options.get("labels")
    files = [p for p in files if p != folder / (labels or "")]
    if not files:
        raise UsageError("no files of a known kind", where=str(folder), fix="known kinds: " + " ".join(KINDS))
    samples = []
    for p in files:
        try:
            samples.append(_prepared(_read(p, options), options, shape))
        except UsageError:
            raise
        except Exception as e:    # of numpy, wave or Pillow: the file is not what its name says
            raise UsageError(f"the file cannot be read: {e}", where=str(p), fix="repair or remove it") from e
    sizes = {s.shape for s in samples}
    if len(sizes) > 1:
        raise UsageError("the files have different shapes: " + ", ".join(map(str, sorted(sizes))), where=str(folder),
                         fix="declare `resize` for pictures or `length` for sound")
    found = {"data": np.stack(samples)}
    if labels:
        found["labels"] = _labels(files, folder, labels)
    return found


def _read(path: Path, options: Mapping) -> Array:
    readers: dict[str, Callable[[], Array]] = {
        ".npy": lambda: np.load(path, allow_pickle=False),
        ".csv": lambda: np.loadtxt(path, delimiter=",", ndmin=1),
        ".wav": lambda: _sound(path, options)}
    return readers.get(path.suffix.lower(), lambda: _picture(path, options))().astype(np.float32)


def _picture(path: Path, options: Mapping) -> Array:
    """[height][width][channels], 0..255."""
    try:
        from PIL import Image
    except ImportError:
        raise UsageError("pictures need Pillow", where=str(path), fix="pip install 'edgec[images]'") from None
    with Image.open(path) as image:
        image = image.convert("L" if options.get("grey") else "RGB")
        if "resize" in options:
            height, width = options["resize"]
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _sound(path: Path, options: Mapping) -> Array:
    """[samples], the mean of the channels, -1..1."""
    with wave.open(str(path)) as w:
        if w.getframerate() != options.get("rate", w.getframerate()):
            raise UsageError(f"the sampling rate is {w.getframerate()}, declared is {options['rate']}",
                             where=str(path), fix="resample the file, or correct `rate`")
        width, channels, raw = w.getsampwidth(), w.getnchannels(), w.readframes(w.getnframes())
    if width not in (1, 2, 4):
        raise UsageError(f"{8 * width}-bit sound is not read", where=str(path), fix="save it with 16 bits")
    whole = np.frombuffer(raw, {1: "u1", 2: "<i2", 4: "<i4"}[width]).astype(np.float64) - (128 if width == 1 else 0)
    mono = whole.reshape(-1, channels).mean(1) / 2.0 ** (8 * width - 1)
    length = options.get("length", len(mono))
    return np.pad(mono, (0, max(0, length - len(mono))))[:length]


def _prepared(x: Array, options: Mapping, shape: tuple[int, ...]) -> Array:
    """(x * scale - mean) / std; a picture's channels where the input has them; reshaped where only the shape differs."""
    mean, std = (np.asarray(options.get(k, d), np.float32) for k, d in (("mean", 0.0), ("std", 1.0)))
    y = ((x * np.float32(options.get("scale", 1.0)) - mean) / std).astype(np.float32)
    inner = shape[1:] if shape[:1] == (1,) else shape
    if y.shape != inner and y.ndim == 3 and (y.shape[2], *y.shape[:2]) == inner:
        return y.transpose(2, 0, 1)
    return y.reshape(inner) if y.size == int(np.prod(inner)) and y.ndim < 3 else y


def _labels(files: list[Path], folder: Path, labels: str) -> Array:
    if labels == "folders":
        names = sorted({p.relative_to(folder).parts[0] for p in files if len(p.relative_to(folder).parts) > 1})
        loose = [p for p in files if len(p.relative_to(folder).parts) < 2]
        if loose:
            raise UsageError("a file is in no class folder", where=str(loose[0]), fix="one subfolder per class")
        return np.array([names.index(p.relative_to(folder).parts[0]) for p in files], np.int64)
    try:
        with (folder / labels).open(newline="", encoding="utf-8") as f:
            known = {row[0]: int(row[1]) for row in csv.reader(f) if row}
    except (OSError, ValueError, IndexError) as e:
        raise UsageError(f"the labels cannot be read: {e}", where=str(folder / labels),
                         fix="write lines `file,class`") from None
    return np.array([known.get(p.relative_to(folder).as_posix(), -1) for p in files], np.int64)
