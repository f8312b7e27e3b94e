"""Element types: how a tensor is stored, and the type that its elements have in arithmetic.

Most types are both. Narrow floats (float16, bfloat16, float8, float4) and integers below a byte are storage alone: a load
widens an element, a store rounds it once to the nearest value, ties to even. Elements below a byte are packed, the first one
in the lowest bits, as ONNX's raw data have them.
"""
from __future__ import annotations

import ml_dtypes
import numpy as np

PACKED = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2, "float4_e2m1fn": 4}  # bits of one element
WIDE = {"float16": "float32", "bfloat16": "float32", "float8_e4m3fn": "float32", "float8_e4m3fnuz": "float32",
        "float8_e5m2": "float32", "float8_e5m2fnuz": "float32", "float8_e8m0fnu": "float32", "float4_e2m1fn": "float32",
        "int4": "int8", "uint4": "uint8", "int2": "int8", "uint2": "uint8"}
SHORT = {"float16": "f16", "bfloat16": "bf16", "float8_e4m3fn": "f8e4m3fn", "float8_e4m3fnuz": "f8e4m3fnuz",
         "float8_e5m2": "f8e5m2", "float8_e5m2fnuz": "f8e5m2fnuz", "float8_e8m0fnu": "f8e8m0", "float4_e2m1fn": "f4e2m1",
         "int4": "i4", "uint4": "u4", "int2": "i2", "uint2": "u2"}
REAL = ("float32", "float64")
# ONNX TensorProto numbers, as ec.h has them.
NUMBERS = {"float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float16": 10,
           "float64": 11, "uint32": 12, "uint64": 13, "bfloat16": 16, "float8_e4m3fn": 17, "float8_e4m3fnuz": 18,
           "float8_e5m2": 19, "float8_e5m2fnuz": 20, "uint4": 21, "int4": 22, "float4_e2m1fn": 23, "float8_e8m0fnu": 24,
           "uint2": 25, "int2": 26}


def numpy_type(dtype: str) -> np.dtype:
    """numpy's type of the name; ml_dtypes has those that numpy lacks."""
    return np.dtype(getattr(ml_dtypes, dtype)) if dtype in WIDE and dtype != "float16" else np.dtype(dtype)


def computed(dtype: str) -> str:
    """The type of an element in an expression."""
    return WIDE.get(dtype, dtype)


def nbytes(dtype: str, elements: int) -> int:
    """Bytes of that many elements in memory."""
    return -(-elements * PACKED[dtype] // 8) if dtype in PACKED else elements * numpy_type(dtype).itemsize


def limits(dtype: str) -> tuple[float, float]:
    """The least and the greatest finite value of a number type."""
    t = numpy_type(dtype)
    info = ml_dtypes.iinfo(t) if t.kind in "iu" or "int" in dtype else ml_dtypes.finfo(t)
    return float(info.min), float(info.max)


def words(data: np.ndarray) -> np.ndarray:
    """The elements of an array as memory holds them, as unsigned words of 8 or 16 bits; other types unchanged."""
    dtype = str(data.dtype)
    if dtype in PACKED:
        n = PACKED[dtype]
        each = 8 // n
        low = data.reshape(-1).view(np.uint8) & (1 << n) - 1
        low = np.concatenate([low, np.zeros(-low.size % each, np.uint8)]).reshape(-1, each)
        return (low << (np.arange(each, dtype=np.uint8) * np.uint8(n))).astype(np.uint8).sum(1, dtype=np.uint8)
    return data.reshape(-1).view(f"uint{data.dtype.itemsize * 8}") if dtype in WIDE else data.reshape(-1)


def from_words(raw: np.ndarray, dtype: str, elements: int) -> np.ndarray:
    """The inverse of `words` on bytes."""
    if dtype not in PACKED:
        return np.frombuffer(raw.tobytes(), numpy_type(dtype))[:elements].copy()
    n = PACKED[dtype]
    each = 8 // n
    flat = (raw.view(np.uint8)[:, None] >> (np.arange(each, dtype=np.uint8) * np.uint8(n)) & np.uint8((1 << n) - 1)).reshape(-1)
    flat = flat[:elements].astype(np.uint8)
    if dtype.startswith("int"):  # sign bits fill the byte
        flat = ((flat.astype(np.int8) << (8 - n)).astype(np.int8) >> (8 - n)).astype(np.int8)
    return flat.view(numpy_type(dtype)) if not dtype.startswith(("int", "uint")) else flat.astype(numpy_type(dtype))


def narrowed(x: float, dtype: str):
    """x as an element of a narrow float: to nearest, ties to even; powers of two round up."""
    if dtype == "float8_e8m0fnu" and x > 0 and np.isfinite(x):
        x = 2.0 ** np.ceil(np.log2(np.float64(x)))
    return np.asarray(x, np.float32).astype(numpy_type(dtype))


def to_bytes(x: np.ndarray) -> bytes:
    """A tensor as its buffer holds it."""
    return words(np.ascontiguousarray(x)).tobytes()


def from_bytes(raw: bytes, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor that a buffer holds."""
    return from_words(np.frombuffer(raw, np.uint8), dtype, int(np.prod(shape, dtype=np.int64))).reshape(shape)
