"""Test cases of the operators that op_cases.py has none for: layers, recurrent networks, selection, sampling, classical
learning. Generators of the same form: `GENERATORS[op](rng)` gives the cases of an operator."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from op_cases import GENERATORS as GENERIC, Case, Const, Rng, case, floats, indices, ints, scalar, tensor

ML = "ai.onnx.ml."


def constant(rng: Rng, *shape: int, low: float = -1, high: float = 1) -> Const:
    return Const(tensor(rng, shape, "float32", low, high))


# --- windows ------------------------------------------------------------------------------------


def _window(rng: Rng, rank: int) -> dict:
    return {
        "kernel_shape": rng.integers(1, 4, rank).tolist(),
        "strides": rng.integers(1, 3, rank).tolist(),
        "pads": rng.integers(0, 2, 2 * rank).tolist(),
    }


def _padded(window: dict) -> dict:
    """Pads that leave no window without an element of the picture."""
    rank = len(window["kernel_shape"])
    return window | {"pads": [min(p, window["kernel_shape"][k % rank] - 1) for k, p in enumerate(window["pads"])]}


def _conv(rng):
    for rank, group in ((1, 1), (2, 1), (2, 2), (2, 4), (3, 1)):
        w = _window(rng, rank)
        weights = constant(rng, 4, 4 // group, *w["kernel_shape"])
        dilations = rng.integers(1, 3, rank).tolist()
        yield case(tensor(rng, (1, 4, *[7] * rank)), weights, constant(rng, 4), group=group, dilations=dilations, **w)
    yield case(tensor(rng, (2, 3, 5, 6)), constant(rng, 2, 3, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2])
    yield case(tensor(rng, (1, 2, 4, 4)), tensor(rng, (3, 2, 2, 2)))  # weights that arrive at run time


def _conv_transpose(rng):
    for rank, group in ((1, 1), (2, 1), (2, 4)):  # ONNX's evaluator takes one channel of each group
        w = _padded(_window(rng, rank))
        bias = [constant(rng, 4)] if group == 1 else []  # and its first bias for all
        yield case(
            tensor(rng, (1, 4, *[4] * rank)), constant(rng, 4, 4 // group, *w["kernel_shape"]), *bias, group=group, **w
        )
    yield case(tensor(rng, (1, 2, 3, 3)), constant(rng, 2, 3, 3, 3), strides=[2, 2], output_padding=[1, 1])


def _conv_integer(rng):
    for zeros in ((), (np.uint8(3),)):
        x, w = tensor(rng, (1, 2, 5, 5), "uint8"), Const(tensor(rng, (3, 2, 3, 3), "uint8"))
        yield case(x, w, *(Const(np.array(z)) for z in zeros), pads=[0, 1, 1, 0])


def _deform_conv(rng):
    x, w = tensor(rng, (1, 2, 4, 4)), constant(rng, 3, 2, 2, 2)
    offset = tensor(rng, (1, 8, 3, 3), low=-1.3, high=1.3)
    yield case(x, w, offset, kernel_shape=[2, 2])
    yield case(x, w, offset, constant(rng, 3), tensor(rng, (1, 4, 3, 3), low=0, high=1), kernel_shape=[2, 2])


def _pool(*options: dict) -> Callable:
    def generate(rng):
        for o in options or ({},):
            for rank in (1, 2):
                w = _padded(_window(rng, rank))
                w["pads"][rank:] = w["pads"][:rank]  # ONNX's evaluator fails on others
                yield case(tensor(rng, (1, 3, *[6] * rank)), **w, **o)
        yield case(tensor(rng, (2, 2, 5, 5)), kernel_shape=[2, 2], auto_pad="SAME_UPPER", strides=[2, 2])

    return generate


def _max_unpool(rng):
    x = tensor(rng, (1, 1, 2, 2))
    yield case(x, np.array([[[[5, 2], [8, 15]]]], np.int64), kernel_shape=[2, 2], strides=[2, 2])


def _col2im(rng):
    yield case(tensor(rng, (1, 8, 9)), ints(4, 4), ints(2, 2))
    yield case(tensor(rng, (1, 4, 4)), ints(4, 5), ints(2, 2), strides=[2, 2], pads=[0, 0, 0, 0])


# --- matrices and norms -------------------------------------------------------------------------


def _gemm(rng):
    for a, b, c in ((0, 0, (4,)), (1, 0, (1, 4)), (0, 1, (3, 4)), (1, 1, ())):
        x, w = tensor(rng, (5, 3) if a else (3, 5)), constant(rng, *((4, 5) if b else (5, 4)))
        yield case(x, w, constant(rng, *c), transA=a, transB=b, alpha=0.5, beta=2.0)
    yield case(tensor(rng, (1, 6)), constant(rng, 6, 3), constant(rng, 3))
    yield case(tensor(rng, (2, 6)), constant(rng, 6, 3))


def _mat_mul(rng):
    for a, b in (
        ((2, 3), (3, 4)),
        ((5, 2, 3), (3, 4)),
        ((2, 1, 2, 3), (5, 3, 2)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
        ((3,), (3,)),
    ):
        yield case(tensor(rng, a), tensor(rng, b))
    yield case(tensor(rng, (4, 6)), constant(rng, 6, 5))
    yield case(tensor(rng, (2, 3), "int32") // 2**17, tensor(rng, (3, 2), "int32") // 2**17)


def _mat_mul_integer(rng):
    x, w = tensor(rng, (3, 4), "uint8"), Const(tensor(rng, (4, 2), "int8"))
    yield case(x, w)
    yield case(x, w, Const(np.uint8([7])), Const(np.array([1, -2], np.int8)))


def _einsum(rng):
    for equation, *of in (
        ("ij,jk->ik", (2, 3), (3, 4)),
        ("bij,bjk->bik", (2, 2, 3), (2, 3, 2)),
        ("ii->i", (3, 3)),
        ("...i,i->...", (2, 3, 4), (4,)),
        ("ij->ji", (2, 3)),
        ("i,j", (2,), (3,)),
    ):
        yield case(*(tensor(rng, s) for s in of), equation=equation)


def _batch_norm(rng):
    x, scale = (
        tensor(rng, (2, 3, 4)),
        [constant(rng, 3), constant(rng, 3), constant(rng, 3), constant(rng, 3, low=0.2, high=2)],
    )
    yield case(x, *scale, epsilon=1e-3)


def _layer_norm(rng):
    for shape, axis in (((2, 3, 8), -1), ((1, 6), -1), ((2, 3, 4), 1)):
        size = shape[axis:]
        yield case(tensor(rng, shape), constant(rng, *size), axis=axis, epsilon=1e-3)
        yield case(tensor(rng, shape), constant(rng, *size), constant(rng, *size), axis=axis)


def _rms_norm(rng):
    for shape, axis in (((2, 3, 8), -1), ((2, 3, 4), 1)):
        yield case(tensor(rng, shape), constant(rng, *shape[axis:]), axis=axis, epsilon=1e-3)


def _softmax(rng):
    for axis in (-1, 0, 1):
        yield case(tensor(rng, (3, 4, 5)), axis=axis)
    yield case(tensor(rng, (1, 10)))


# --- recurrent ----------------------------------------------------------------------------------


def _recurrent(gates: int, **attrs) -> Callable:
    def generate(rng):
        size, h = 3, 4
        for batch, directions, both in (
            (1, 1, ()),
            (2, 1, ("h",)),
            (1, 2, ("h",)) if gates != 4 else (1, 1, ("h", "c")),
        ):
            w = constant(rng, directions, gates * h, size), constant(rng, directions, gates * h, h)
            bias = constant(rng, directions, 2 * gates * h)
            states = [tensor(rng, (directions, batch, h), low=-1, high=1) for _ in both]
            more = {"direction": "bidirectional"} if directions == 2 else {}
            outputs = 3 if gates == 4 else 2
            yield case(
                tensor(rng, (3, batch, size), low=-1, high=1),
                *w,
                bias,
                *([None, *states] if states else []),
                hidden_size=h,
                outputs=outputs,
                **more,
                **attrs,
            )

    return generate


# --- selection ----------------------------------------------------------------------------------


def _trilu(rng):
    for upper in (0, 1):
        yield case(tensor(rng, (2, 3, 4)), upper=upper)
        yield case(tensor(rng, (4, 3), "int32"), scalar(-1, "int64"), upper=upper)


def _one_hot(rng):
    for axis in (-1, 0):
        yield case(indices(rng, 4, (2, 3)), scalar(4, "int64"), floats(-1, 2.5), axis=axis)


def _top_k(rng):
    for d in ("float32", "int32"):
        x = np.asarray(rng.permutation(24).reshape(2, 4, 3), d)
        for axis, largest in ((-1, 1), (1, 0)):
            yield case(x, ints(2), axis=axis, largest=largest, outputs=2)


def _scatter_elements(rng):
    x, at = tensor(rng, (3, 4)), np.array([[1, 0, 2, 0], [0, 2, 1, 1]])
    for reduction in ("none", "add", "mul", "max", "min"):
        yield case(x, at, tensor(rng, (2, 4)), reduction=reduction)


def _scatter_nd(rng):
    at = np.array([[[0], [2]], [[3], [1]]])
    for reduction in ("none", "add", "max"):
        yield case(tensor(rng, (4, 3)), at, tensor(rng, (2, 2, 3)), reduction=reduction)


def _tensor_scatter(rng):
    yield case(tensor(rng, (2, 4, 3)), tensor(rng, (2, 2, 3)), np.array([0, 2]))


def _reverse_sequence(rng):
    yield case(tensor(rng, (4, 3, 2)), np.array([4, 1, 2]), time_axis=0, batch_axis=1)
    yield case(tensor(rng, (3, 4), "int32"), np.array([1, 4, 3]), time_axis=1, batch_axis=0)


def _non_zero(rng):
    yield case(np.asarray(rng.integers(0, 2, (3, 4)), np.float32))
    yield case(tensor(rng, (5,), "bool"))


def _compress(rng):
    for axis in (0, 1):
        yield case(tensor(rng, (3, 4)), np.array([1, 0, 1], bool), axis=axis)
    yield case(tensor(rng, (2, 3)), np.array([0, 1, 1, 0, 1], bool))


def _unique(rng):
    yield case(np.asarray(rng.integers(0, 4, 9), np.float32), outputs=4)
    yield case(np.asarray(rng.integers(0, 2, (4, 2)), np.int64), axis=0, outputs=1)


def _suppression(rng):
    corner = rng.uniform(0, 1, (1, 6, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.2, 0.6, (1, 6, 2))], -1).astype(np.float32)
    yield case(boxes, tensor(rng, (1, 2, 6), low=0, high=1), ints(3), floats(0.4), floats(0.2))


# --- sampling and signals -----------------------------------------------------------------------


def _grid_sample(rng):
    for mode in ("linear", "nearest", "cubic"):
        for padding in ("zeros", "border", "reflection"):
            if (mode, padding) == ("cubic", "border"):  # ONNX's evaluator differs from onnxruntime and PyTorch
                continue
            grid = tensor(rng, (1, 3, 3, 2), low=-1.3, high=1.3)
            yield case(
                tensor(rng, (1, 2, 4, 5)), grid, mode=mode, padding_mode=padding, align_corners=int(rng.integers(0, 2))
            )


def _roi_align(rng):
    rois = np.array([[0, 0, 5, 5], [1, 2, 4, 3.5]], np.float32)
    for mode in ("avg", "max"):
        yield case(
            tensor(rng, (1, 2, 6, 6)),
            Const(rois),
            ints(0, 0),
            mode=mode,
            output_height=2,
            output_width=3,
            sampling_ratio=2,
        )


def _dft(rng):
    for n, parts, inverse in ((8, 2, 0), (8, 2, 1), (6, 2, 0), (16, 1, 0)):
        yield case(tensor(rng, (2, n, parts)), None, scalar(1, "int64"), inverse=inverse)
    yield case(tensor(rng, (1, 8, 1)), None, scalar(1, "int64"), onesided=1)


def _stft(rng):
    for n in (8, 6):
        yield case(tensor(rng, (1, 24, 1)), scalar(4, "int64"), constant(rng, n, low=0.1), scalar(n, "int64"))


# --- classical learning -------------------------------------------------------------------------


def _label_encoder(rng):
    yield case(
        np.asarray(rng.integers(0, 5, (2, 3)), np.int64), keys_int64s=[1, 3], values_int64s=[7, -2], default_int64=9
    )
    yield case(
        np.asarray(rng.integers(0, 5, 4), np.int64),
        keys_int64s=[0, 2, 4],
        values_floats=[0.5, 1.5, -1.0],
        default_float=-9.0,
    )


def _imputer(rng):
    x = tensor(rng, (3, 2))
    x[0, 1] = x[2, 0] = np.nan
    yield case(x, imputed_value_floats=[0.5, -1.0], replaced_value_float=float("nan"))


def _normalizer(rng):
    for norm in ("MAX", "L1", "L2"):
        yield case(tensor(rng, (3, 4), low=0.1), norm=norm)


def _linear_regressor(rng):
    yield case(tensor(rng, (3, 4)), coefficients=rng.normal(size=8).tolist(), intercepts=[0.5, -1.0], targets=2)


def _linear_classifier(rng):
    for post in ("NONE", "SOFTMAX", "LOGISTIC"):
        yield case(
            tensor(rng, (4, 3)),
            coefficients=rng.normal(size=9).tolist(),
            intercepts=rng.normal(size=3).tolist(),
            classlabels_ints=[2, 5, 7],
            post_transform=post,
            multi_class=1,
            outputs=2,
        )


def _stump(rng, kind: str) -> dict:
    """Two trees of one decision each over three features."""
    cuts = rng.normal(size=2).tolist()
    nodes = {
        "nodes_treeids": [0] * 3 + [1] * 3,
        "nodes_nodeids": [0, 1, 2] * 2,
        "nodes_featureids": [0, 0, 0, 2, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"] * 2,
        "nodes_values": [cuts[0], 0, 0, cuts[1], 0, 0],
        "nodes_truenodeids": [1, 0, 0] * 2,
        "nodes_falsenodeids": [2, 0, 0] * 2,
    }
    leaves = {
        f"{kind}_treeids": [0, 0, 1, 1],
        f"{kind}_nodeids": [1, 2, 1, 2],
        f"{kind}_weights": rng.normal(size=4).tolist(),
    }
    return nodes | leaves


def _tree_regressor(rng):
    for how in ("SUM", "AVERAGE", "MAX"):
        yield case(
            tensor(rng, (4, 3)), **_stump(rng, "target"), target_ids=[0, 0, 0, 0], n_targets=1, aggregate_function=how
        )


def _tree_classifier(rng):
    yield case(
        tensor(rng, (4, 3)), **_stump(rng, "class"), class_ids=[0, 1, 2, 0], classlabels_int64s=[4, 5, 6], outputs=2
    )


def _tree_ensemble(rng):
    yield case(
        tensor(rng, (4, 2)),
        n_targets=2,
        aggregate_function=1,
        post_transform=0,
        tree_roots=[0],
        nodes_modes=np.array([0], np.uint8),
        nodes_featureids=[1],
        nodes_splits=tensor(rng, (1,)),
        nodes_truenodeids=[0],
        nodes_trueleafs=[1],
        nodes_falsenodeids=[1],
        nodes_falseleafs=[1],
        leaf_targetids=[0, 1],
        leaf_weights=tensor(rng, (2,)),
    )


def _svm_regressor(rng):
    for kernel in ("LINEAR", "RBF", "POLY", "SIGMOID"):
        yield case(
            tensor(rng, (3, 2), low=-1, high=1),
            kernel_type=kernel,
            kernel_params=[0.5, 0.1, 2.0],
            n_supports=3,
            rho=[0.3],
            support_vectors=rng.normal(size=6).tolist(),
            coefficients=rng.normal(size=3).tolist(),
        )


def _svm_classifier(rng):
    weights = (
        rng.uniform(0.2, 1, 3) * [1, 1, -1]
    ).tolist()  # of both signs, as trained ones: ONNX's evaluator needs that
    yield case(
        tensor(rng, (3, 2), low=-1, high=1),
        kernel_type="RBF",
        kernel_params=[0.5, 0.0, 3.0],
        vectors_per_class=[2, 1],
        support_vectors=rng.normal(size=6).tolist(),
        coefficients=weights,
        rho=[0.2],
        classlabels_ints=[3, 8],
        outputs=2,
    )


def _one(*operands: Callable, outputs: int = 1, **attrs) -> Callable:
    """One case; each operand a function of the random numbers."""
    return lambda rng: [case(*(o(rng) for o in operands), outputs=outputs, **attrs)]


def _tensor(*shape: int, dtype: str = "float32", **bounds) -> Callable:
    return lambda rng: tensor(rng, shape, dtype, **bounds)


NORM = lambda rng: case(tensor(rng, (2, 3, 4, 4)), constant(rng, 3), constant(rng, 3), epsilon=1e-3)  # noqa: E731
OWN: dict[str, Callable[[Rng], Iterable[Case]]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "ConvInteger": _conv_integer,
    "DeformConv": _deform_conv,
    "MaxPool": _pool(),
    "AveragePool": _pool({}, {"count_include_pad": 1}),
    "LpPool": _pool({"p": 2}, {"p": 1}),
    "MaxUnpool": _max_unpool,
    "Col2Im": _col2im,
    "Gemm": _gemm,
    "MatMul": _mat_mul,
    "MatMulInteger": _mat_mul_integer,
    "Einsum": _einsum,
    "Det": _one(_tensor(2, 3, 3)),
    "LpNormalization": lambda rng: [case(tensor(rng, (3, 4), low=0.2), axis=a, p=p) for a, p in ((-1, 2), (0, 1))],
    "LRN": _one(_tensor(4, 4, 3, 2), size=3, alpha=0.01),  # ONNX's evaluator wants as many pictures as channels
    "InstanceNormalization": lambda rng: [NORM(rng)],
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "LogSoftmax": _softmax,
    "Softmax": _softmax,
    "Hardmax": _softmax,
    "RNN": _recurrent(1),
    "GRU": _recurrent(3, linear_before_reset=1),
    "LSTM": _recurrent(4),
    "Trilu": _trilu,
    "EyeLike": lambda rng: [case(tensor(rng, (3, 4)), k=k) for k in (-1, 0, 2)],
    "OneHot": _one_hot,
    "TopK": _top_k,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "TensorScatter": _tensor_scatter,
    "ReverseSequence": _reverse_sequence,
    "NonZero": _non_zero,
    "Compress": _compress,
    "Unique": _unique,
    "NonMaxSuppression": _suppression,
    "GridSample": _grid_sample,
    "RoiAlign": _roi_align,
    "DFT": _dft,
    "STFT": _stft,
    "TfIdfVectorizer": lambda rng: [
        case(
            np.asarray(rng.integers(0, 4, (2, 6)), np.int64),
            mode=m,
            min_gram_length=1,
            max_gram_length=2,
            max_skip_count=1,
            ngram_counts=[0, 3],
            ngram_indexes=[0, 1, 2, 3, 4],
            pool_int64s=[0, 1, 3, 1, 2, 0, 1],
            weights=[0.5, 1.0, 2.0, 3.0, 1.5],
        )
        for m in ("TF", "IDF")
    ],
    "BitCast": lambda rng: [case(tensor(rng, (3,)), to=6), case(tensor(rng, (3,), "uint8"), to=3)],
    ML + "Binarizer": _one(_tensor(3, 4), threshold=0.5),
    ML + "ArrayFeatureExtractor": _one(_tensor(3, 4), lambda rng: ints(2, 0)),
    ML + "Scaler": _one(_tensor(3, 2), offset=[0.5, -1.0], scale=[2.0, 0.25]),
    ML + "LabelEncoder": _label_encoder,
    ML + "Normalizer": _normalizer,
    ML + "Imputer": _imputer,
    ML + "OneHotEncoder": _one(_tensor(2, 3, dtype="int64"), cats_int64s=[1, 2, 3]),
    ML + "FeatureVectorizer": _one(_tensor(3, 2), _tensor(3, 1), inputdimensions=[2, 1]),
    ML + "LinearRegressor": _linear_regressor,
    ML + "LinearClassifier": _linear_classifier,
    ML + "TreeEnsembleRegressor": _tree_regressor,
    ML + "TreeEnsembleClassifier": _tree_classifier,
    ML + "TreeEnsemble": _tree_ensemble,
    ML + "SVMRegressor": _svm_regressor,
    ML + "SVMClassifier": _svm_classifier,
}
GENERATORS = GENERIC | OWN
