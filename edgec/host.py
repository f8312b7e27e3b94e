"""Runs an emitted package on this computer, as a shared library under cffi; the target must equal it bit for bit."""
from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import cffi
import numpy as np

from . import package, paths, toolchain
from .dtypes import NUMBERS, from_bytes, numpy_type, to_bytes
from .errors import ToolchainError, UsageError, ValidationError
from .poison import Poison

DTYPES = {number: name for name, number in NUMBERS.items()}

_CDEF = """
typedef struct { const char *name; const int32_t *shape; uint32_t bytes; uint8_t dtype; uint8_t rank; float scale;
                 int32_t zero_point; } ec_tensor_info;
typedef struct { const char *name; const char *hash; const ec_tensor_info *inputs; const ec_tensor_info *outputs;
                 uint32_t arena_bytes; uint16_t n_inputs, n_outputs, n_steps; } ec_model_info;
typedef struct { const char *name; uint32_t offset; uint32_t bytes; } ec_step_info;
size_t edgec_host_sizeof(void);
int32_t edgec_host_init(void *m, void *arena, size_t bytes);
void *edgec_host_input(void *m, unsigned i);
int32_t edgec_host_run(void *m);
unsigned edgec_host_rows(void);
unsigned edgec_host_rows_left(const void *m);
const void *edgec_host_output(const void *m, unsigned i);
void edgec_host_reset(void *m);
const ec_model_info *edgec_host_info(void);
const ec_step_info *edgec_host_steps(void);
void edgec_host_trace(const uint8_t *arena, uint8_t *steps, uint8_t *seen);
void edgec_host_watch(void (*watch)(unsigned step, int32_t tick));
"""
_GLUE = "edgec_host.c"
# Included before the model, so that its steps by rows call the glue after each tick.
_TICK, _TICK_TEXT = "edgec_tick.h", """#include <stdint.h>
void edgec_host_tick(unsigned step, int32_t tick);
#define EC_TICK(step, tick) edgec_host_tick(step, tick)
"""
_ALIGN, _GUARD, _GUARD_BYTE, _UNSET_BYTE = 16, 64, 0xDB, 0x5A


@dataclass(frozen=True)
class TensorInfo:
    """dtype: a numpy type name; scale 0: not quantised."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    scale: float
    zero_point: int


@dataclass(frozen=True)
class StepInfo:
    """A step and the bytes of its (first) output."""

    name: str
    nbytes: int


class HostModel:
    """One instance of a compiled model. Not for use from several threads at once."""

    def __init__(self, library: _Library):
        self._ffi, self._lib = library.ffi, library.lib
        info = self._lib.edgec_host_info()
        self.name, self.hash = self._text(info.name), self._text(info.hash)
        self.arena_bytes: int = info.arena_bytes
        self.rows: int = self._lib.edgec_host_rows()  # runs per sample
        self.inputs = tuple(self._tensor(info.inputs[i]) for i in range(info.n_inputs))
        self.outputs = tuple(self._tensor(info.outputs[i]) for i in range(info.n_outputs))
        steps = self._lib.edgec_host_steps()
        self.steps = tuple(StepInfo(self._text(steps[i].name), steps[i].bytes) for i in range(info.n_steps))
        self._model = self._ffi.new("uint8_t[]", max(1, self._lib.edgec_host_sizeof()))
        self._memory = np.full(self.arena_bytes + 2 * _GUARD + _ALIGN, _UNSET_BYTE, np.uint8)
        start = _GUARD + -(self._memory.ctypes.data + _GUARD) % _ALIGN
        self._guards = (self._memory[:start], self._memory[start + self.arena_bytes:])
        for guard in self._guards:
            guard[:] = _GUARD_BYTE
        self._bytes = self._memory[start:start + self.arena_bytes]
        self._arena = self._ffi.cast("uint8_t *", self._bytes.ctypes.data)
        self._check(self._lib.edgec_host_init(self._model, self._arena, self.arena_bytes), "init")

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """One inference. inputs: an array per input with its dtype and number of elements, in any shape.

        Returns an array per output. Raises UsageError for inputs that do not fit, ValidationError where the model
        reports an error or has written outside its arena.
        """
        arrays = [np.asarray(a) for a in inputs]
        if len(arrays) != len(self.inputs):
            raise UsageError(f"{len(arrays)} inputs given, the model has {len(self.inputs)}", where=self.name,
                             fix="give one array per input")
        for array, info in zip(arrays, self.inputs, strict=True):
            if array.dtype != numpy_type(info.dtype) or array.size != np.prod(info.shape, dtype=np.int64):
                raise UsageError(f"input is {array.dtype}{list(array.shape)}", where=info.name,
                                 fix=f"give {info.dtype}{list(info.shape)}")
        raw = self.run_bytes([to_bytes(a) for a in arrays])
        return [from_bytes(r, i.dtype, i.shape) for r, i in zip(raw, self.outputs, strict=True)]

    def run_bytes(self, inputs: Sequence[bytes], poison: Poison | None = None) -> list[bytes]:
        """`run` on raw bytes, in and out: the form that `emulator.run` has. poison: of the package's plan."""
        for raw, info in zip(inputs, self.inputs, strict=True):
            if len(raw) != info.nbytes:
                raise UsageError(f"input has {len(raw)} bytes", where=info.name, fix=f"give {info.nbytes} bytes")
        if self.rows > 1:  # a new window, whatever was pushed before
            self.reset()
            row = len(inputs[0]) // self.rows
            return [self.push_bytes(inputs[0][k * row:(k + 1) * row], poison, k == 0) for k in range(self.rows)][-1]
        return self._run_once(inputs, poison, True)

    def push_bytes(self, row: bytes, poison: Poison | None = None, first: bool = False) -> list[bytes] | None:
        """One row of an input that comes row by row; the outputs where they are due after it, else None. first: of a
        window, before which all else is dead."""
        outputs = self._run_once([row], poison, first)
        return None if self._lib.edgec_host_rows_left(self._model) else outputs

    def _run_once(self, inputs: Sequence[bytes], poison: Poison | None, first: bool) -> list[bytes]:
        for i, raw in enumerate(inputs):
            self._ffi.memmove(self._lib.edgec_host_input(self._model, i), raw, len(raw))
        if poison is None:
            self._check(self._lib.edgec_host_run(self._model), "run")
        else:
            self._run_poisoned(poison, first)
        for guard in self._guards:
            if not np.all(guard == _GUARD_BYTE):
                raise ValidationError("the model wrote outside its arena", where=self.name, fix="report this")
        return [bytes(self._ffi.buffer(self._lib.edgec_host_output(self._model, i), info.nbytes))
                for i, info in enumerate(self.outputs)]

    def _run_poisoned(self, poison: Poison, first: bool) -> None:
        """A run in which all that is dead is overwritten before it (`first`), after each tick and after each step."""
        @self._ffi.callback("void(unsigned, int32_t)")
        def watch(step, tick):
            poison.after(self._bytes, step, tick if tick >= 0 else None)

        if first:
            poison.before(self._bytes)
        self._lib.edgec_host_watch(watch)
        try:
            self._check(self._lib.edgec_host_run(self._model), "run")
        finally:
            self._lib.edgec_host_watch(self._ffi.NULL)

    def trace_bytes(self, inputs: Sequence[bytes]) -> tuple[list[bytes], dict[int, bytes]]:
        """`run_bytes`, and the bytes of each executed step's output: index in `steps` -> bytes."""
        steps = np.zeros(sum(s.nbytes for s in self.steps) or 1, np.uint8)
        seen = np.zeros(len(self.steps) or 1, np.uint8)
        self._lib.edgec_host_trace(self._arena, self._ffi.from_buffer("uint8_t[]", steps),
                             self._ffi.from_buffer("uint8_t[]", seen))
        try:
            outputs = self.run_bytes(inputs)
        finally:
            self._lib.edgec_host_trace(self._ffi.NULL, self._ffi.NULL, self._ffi.NULL)
        ends = np.cumsum([0, *(s.nbytes for s in self.steps)])
        return outputs, {i: steps[ends[i]:ends[i + 1]].tobytes() for i in range(len(self.steps)) if seen[i]}

    def reset(self) -> None:
        """Back to the state after loading, for a model that keeps state between runs."""
        self._lib.edgec_host_reset(self._model)

    def _check(self, status: int, what: str) -> None:
        if status:
            raise ValidationError(f"{self.name}_{what} returned {status}", where=self.name, fix="report this")

    def _text(self, chars) -> str:
        return self._ffi.string(chars).decode()

    def _tensor(self, info) -> TensorInfo:
        return TensorInfo(self._text(info.name), DTYPES[info.dtype], tuple(info.shape[0:info.rank]), info.bytes,
                          float(info.scale), info.zero_point)


@dataclass(frozen=True)
class _Library:
    """`folder` keeps the file until the process ends."""

    ffi: cffi.FFI
    lib: object
    folder: tempfile.TemporaryDirectory


_libraries: dict[str, _Library] = {}


def load(package_dir: Path, simd_on_host: bool = False, cc: str | None = None,
         flags: Sequence[str] = ()) -> HostModel:
    """A new instance of the package's model; the same content is compiled once per process.

    simd_on_host: the package is for a core with SIMD instructions: its headers of runtime_c/simd are replaced by those
    that say the same in plain C, so that the target's own kernels run here. cc: the compiler, default as
    toolchain.find_host. flags: more compiler options. Raises ToolchainError where there is no compiler or it fails;
    every warning is an error.
    """
    compiler = toolchain.find_host(cc)
    pack = package.read(package_dir)
    files = _sources(pack, simd_on_host)
    options = [*toolchain.CFLAGS, "-Werror", toolchain.MODEL_OPT["balanced"], "-shared", "-fPIC", *flags]
    options += ["-include", _TICK]
    if sys.platform == "linux":
        options.append("-Wl,-Bsymbolic")  # two packages with the same names live side by side
    key = hashlib.sha256(repr((sorted(files.items()), options, compiler)).encode()).hexdigest()
    if key not in _libraries:
        _libraries[key] = _compile(pack, compiler, options, files)
    return HostModel(_libraries[key])


def _sources(pack: package.Package, simd_on_host: bool) -> dict[str, bytes]:
    """path -> content of all that is compiled."""
    files = {n: (pack.folder / n).read_bytes() for n in dict.fromkeys((*pack.sources, f"{pack.c_name}.h", *pack.own))}
    files |= {f"runtime/{p.name}": p.read_bytes() for p in sorted((pack.folder / "runtime").glob("*.h"))}
    if simd_on_host:
        for p in sorted((paths.data("runtime_c") / "simd").glob("*_on_host/*.h")):
            if f"runtime/{p.name}" in files:
                files[f"runtime/{p.name}"] = p.read_bytes()
    starts = accumulate(pack.arenas, initial=0)
    glue = paths.template("host/edgec_host.c.j2").render(
        c_name=pack.c_name, has_reset=pack.has_reset, has_rows=pack.has_rows, total=pack.arena_bytes,
        arenas=[{"offset": at, "bytes": n} for at, n in zip(starts, pack.arenas, strict=False)])
    return files | {_GLUE: glue.encode(), _TICK: _TICK_TEXT.encode()}


def _compile(pack: package.Package, compiler: toolchain.Compiler, options: Sequence[str],
             files: dict[str, bytes]) -> _Library:
    folder = tempfile.TemporaryDirectory(prefix="edgec-host-")
    for name, content in files.items():
        path = Path(folder.name) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    target = Path(folder.name) / f"lib{pack.c_name}.so"
    done = subprocess.run([*compiler.command, *options, *pack.sources, _GLUE, "-o", target.name], cwd=folder.name,
                          capture_output=True, text=True, errors="replace")
    if done.returncode:
        folder.cleanup()
        raise ToolchainError(f"compiling for this computer failed: {done.stderr.strip()[-2000:]}",
                             where=str(pack.folder), fix="try another compiler (CC=gcc or CC=clang)")
    ffi = cffi.FFI()
    ffi.cdef(_CDEF)
    return _Library(ffi, ffi.dlopen(str(target)), folder)
