"""What skl2onnx emits, as C on the host, against scikit-learn itself: trees, linear models, vector machines,
neighbours, preparation of features, pipelines; labels that are text."""

from __future__ import annotations

import subprocess
import warnings

import numpy as np
import onnx
import pytest

import edgec
from edgec import board, host, onnx_in, pipeline, store

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra: dev)")
skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed (extra: dev)")

from sklearn import (  # noqa: E402
    cluster,
    decomposition,
    discriminant_analysis,
    ensemble,
    impute,
    linear_model,
    naive_bayes,
    neighbors,
    neural_network,
    preprocessing,
    svm,
    tree,
)
from sklearn.datasets import load_iris  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402

NAMES = np.array(["setosa", "versicolor", "virginica"])
X, Y = load_iris(return_X_y=True)
X = (X + np.random.default_rng(0).normal(scale=0.02, size=X.shape)).astype(np.float32)  # no two distances are equal
TWO = Y < 2
ROWS = slice(0, None, 7)
OPSETS = {"": 18, "ai.onnx.ml": 3}


def classifiers():
    text, two = (X, NAMES[Y]), (X[TWO], Y[TWO])
    yield "logistic", linear_model.LogisticRegression(max_iter=500), (X, Y)
    yield "logistic_two", linear_model.LogisticRegression(), two
    yield "logistic_text", linear_model.LogisticRegression(max_iter=500), text
    yield "linear_svc", svm.LinearSVC(), (X, Y)
    yield "discriminant", discriminant_analysis.LinearDiscriminantAnalysis(), (X, Y)
    yield "tree", tree.DecisionTreeClassifier(max_depth=4), (X, Y)
    yield "forest", ensemble.RandomForestClassifier(7), (X, Y)
    yield "forest_two", ensemble.RandomForestClassifier(7), two
    yield "forest_text", ensemble.RandomForestClassifier(7), text
    yield "extra_trees", ensemble.ExtraTreesClassifier(7), (X, Y)
    yield "boosting", ensemble.GradientBoostingClassifier(n_estimators=6), (X, Y)
    yield "boosting_two", ensemble.GradientBoostingClassifier(n_estimators=6), two
    yield "ada_boost", ensemble.AdaBoostClassifier(n_estimators=3), (X, Y)
    yield "svc_linear", svm.SVC(kernel="linear"), (X, Y)
    yield "svc_rbf", svm.SVC(), (X, Y)
    yield "svc_poly", svm.SVC(kernel="poly", coef0=1.0), (X, Y)
    yield "svc_sigmoid", svm.SVC(kernel="sigmoid", gamma=0.01), (X, Y)
    yield "svc_two", svm.SVC(), two
    yield "svc_text", svm.SVC(), text
    yield "nu_svc", svm.NuSVC(), (X, Y)
    yield "neighbours", neighbors.KNeighborsClassifier(3), (X, Y)
    yield "perceptron", neural_network.MLPClassifier(hidden_layer_sizes=(5,), max_iter=60, random_state=0), (X, Y)
    yield "perceptron_text", neural_network.MLPClassifier(hidden_layer_sizes=(5,), max_iter=60, random_state=0), text
    yield "bayes", naive_bayes.GaussianNB(), (X, Y)
    yield (
        "pipeline",
        make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler(), linear_model.LogisticRegression()),
        (X, Y),
    )


def regressors():
    yield "linear", linear_model.LinearRegression()
    yield "ridge_of_squares", make_pipeline(preprocessing.PolynomialFeatures(2), linear_model.Ridge())
    yield (
        "normalised",
        make_pipeline(
            preprocessing.Normalizer(), preprocessing.MinMaxScaler(), decomposition.PCA(2), linear_model.Ridge()
        ),
    )
    yield "tree", tree.DecisionTreeRegressor(max_depth=5)
    yield "forest", ensemble.RandomForestRegressor(7)
    yield "extra_trees", ensemble.ExtraTreesRegressor(7)
    yield "boosting", ensemble.GradientBoostingRegressor(n_estimators=6)
    for kernel in ("linear", "poly", "rbf", "sigmoid"):
        yield f"svr_{kernel}", svm.SVR(kernel=kernel, gamma=0.02)
    yield "nu_svr", svm.NuSVR()
    yield "neighbours", neighbors.KNeighborsRegressor(3)
    yield "perceptron", neural_network.MLPRegressor(hidden_layer_sizes=(5,), max_iter=60, random_state=0)


CLASSIFIERS = {name: rest for name, *rest in classifiers()}
REGRESSORS = dict(regressors())


def fitted(model, x, y=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if "random_state" in model.get_params():
            model.set_params(random_state=0)
        return model.fit(x) if y is None else model.fit(x, y)


def run(model, samples, folder, options=None):
    """(compiled, the outputs for each sample, stacked)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        m = skl2onnx.to_onnx(model, samples[:1], options=options, target_opset=OPSETS)
    c = pipeline.compile_graph(onnx_in.from_model(m, "net"), board.load("cortex-m4"))
    store.write_files(folder, c.files)
    h = host.load(folder, simd_on_host=True)
    found = [h.run([x.reshape(c.graph.type(c.graph.inputs[0]).shape)]) for x in samples]
    return c, [np.concatenate(column) for column in zip(*found, strict=True)]


def scores_of(model, x):
    """What scikit-learn says beside the label."""
    if hasattr(model, "predict_proba"):
        return model.predict_proba(x)
    s = model.decision_function(x)
    return np.stack([-s, s], 1) if s.ndim == 1 else s


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(name, tmp_path):
    model, (x, y) = CLASSIFIERS[name]
    model, samples = fitted(model, x, y), x[ROWS]
    c, (label, scores) = run(model, samples, tmp_path)
    if y.dtype.kind == "U":
        label = np.array(c.graph.labels[c.graph.outputs[0]])[label]
    assert np.array_equal(label.reshape(-1), model.predict(samples))
    if name == "svc_two":  # the two columns of such a model stand in the other order, with onnxruntime as well
        scores = scores[:, ::-1]
    np.testing.assert_allclose(scores, scores_of(model, samples), rtol=2e-4, atol=2e-5)


@pytest.mark.filterwarnings("ignore")
def test_probabilities_of_a_vector_machine(tmp_path):
    """libsvm's coupling of pairs, which scikit-learn computes in float64."""
    model = fitted(svm.SVC(probability=True), X, Y)
    c, (label, scores) = run(model, X[ROWS], tmp_path)
    np.testing.assert_allclose(scores, model.predict_proba(X[ROWS]), atol=1e-3)
    assert np.array_equal(label, scores.argmax(1))  # scikit-learn's label is that of the votes, which may differ


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors(name, tmp_path):
    model, samples = fitted(REGRESSORS[name], X, X[:, 3] * 2 - X[:, 0]), X[ROWS]
    _, (y,) = run(model, samples, tmp_path)
    np.testing.assert_allclose(y.reshape(-1), model.predict(samples), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
    "model",
    [ensemble.IsolationForest(n_estimators=4), svm.OneClassSVM(), svm.OneClassSVM(kernel="sigmoid", gamma=0.01)],
)
def test_outliers(model, tmp_path):
    model, samples = fitted(model, X), np.concatenate([X[ROWS], X[:3] * 3])
    _, (label, scores) = run(model, samples, tmp_path)
    wanted = model.decision_function(samples)
    sure = np.abs(wanted) > 1e-4
    np.testing.assert_allclose(scores.reshape(-1), wanted, rtol=2e-4, atol=1e-4)
    assert np.array_equal(label.reshape(-1)[sure], model.predict(samples)[sure])


def test_clusters(tmp_path):
    model = fitted(cluster.KMeans(3, n_init=1), X)
    _, (label, distances) = run(model, X[ROWS], tmp_path)
    assert np.array_equal(label, model.predict(X[ROWS]))
    np.testing.assert_allclose(distances, model.transform(X[ROWS]), rtol=1e-3, atol=1e-3)


SPOILED = np.where(np.arange(X.size).reshape(X.shape) % 5 == 0, np.nan, X).astype(np.float32)


@pytest.mark.parametrize(
    "model, x",
    [
        (preprocessing.StandardScaler(), X),
        (preprocessing.MaxAbsScaler(), X),
        (preprocessing.RobustScaler(), X),
        *((preprocessing.Normalizer(norm), X - 3) for norm in ("l1", "l2", "max")),
        (impute.SimpleImputer(strategy="median"), SPOILED),
        (preprocessing.Binarizer(threshold=2.0), X),
        (preprocessing.OneHotEncoder(sparse_output=False), Y.reshape(-1, 1)),
        (preprocessing.OrdinalEncoder(), Y.reshape(-1, 1) * 3),
        (preprocessing.PolynomialFeatures(2), X),
        (decomposition.PCA(3), X),
    ],
    ids=lambda v: getattr(v, "norm", type(v).__name__),
)
def test_preparation(model, x, tmp_path):
    model = fitted(model, x)
    _, (y,) = run(model, x[ROWS], tmp_path)
    np.testing.assert_allclose(y, model.transform(x[ROWS]), rtol=1e-4, atol=1e-5)


def test_the_header_holds_the_labels(tmp_path):
    """As C strings, quotes and all."""
    names = np.array(['se"tosa', "versi\\color", "vir\ngänica"])
    model = fitted(tree.DecisionTreeClassifier(max_depth=2), X, names[Y])
    run(model, X[:1], tmp_path)
    (tmp_path / "labels.c").write_text(
        '#include <stdio.h>\n#include "net.h"\nstatic const char *const labels[] = NET_OUTPUT_0_LABELS;\n'
        "int main(void) { for (unsigned i = 0; i < 3u; i++) { fputs(labels[i], stdout); fputc(0, stdout); } return 0; }\n"
    )
    subprocess.run(
        ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-o", "labels", "labels.c"], cwd=tmp_path, check=True
    )
    said = subprocess.run([tmp_path / "labels"], capture_output=True, check=True).stdout
    assert said.decode().split("\0")[:-1] == list(names)


@pytest.mark.parametrize("zipmap", [False, True])
def test_labels_and_maps_are_validated(zipmap, tmp_path):
    model = fitted(tree.DecisionTreeClassifier(max_depth=3), X, NAMES[Y])
    onnx.save(skl2onnx.to_onnx(model, X[:1], options={"zipmap": zipmap}, target_opset=OPSETS), tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", X=X[ROWS])
    built = edgec.build(tmp_path / "m.onnx", board="cortex-m4", out=tmp_path / "p", compile=False)
    result = edgec.validate(built.directory, data=tmp_path / "x.npz")
    assert result.ok, result.reasons
