"""Samples from folders with a declared preparation, and from functions."""

import wave

import numpy as np
import pytest
from test_data import model

from edgec.data import load
from edgec.errors import UsageError

RNG = np.random.default_rng(8)


def image_file(path, pixels):
    Image = pytest.importorskip("PIL.Image")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def sound_file(path, values, rate=8000, channels=1):
    with wave.open(str(path), "wb") as w:
        w.setparams((channels, 2, rate, 0, "NONE", ""))
        w.writeframes(np.asarray(values, "<i2").tobytes())


def test_arrays_and_tables(tmp_path):
    g = model(("v", "float32", (1, 2, 3)))
    want = RNG.random((3, 2, 3)).astype(np.float32)
    for k in range(2):
        np.save(tmp_path / f"{k}.npy", want[k])
    np.savetxt(tmp_path / "2.csv", want[2], delimiter=",")
    (tmp_path / "notes.txt").write_text("not a sample")
    d = load(tmp_path, g)
    np.testing.assert_allclose(np.concatenate([d[k]["v"] for k in range(3)]), want, rtol=1e-6)
    assert d.labels is None


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (1, 4, 5, 3)])
def test_pictures_go_where_the_model_has_channels(tmp_path, shape):
    pixels = RNG.integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    for k, name in enumerate(("b/one.png", "a/two.png")):
        image_file(tmp_path / "p" / name, pixels[k])
    (tmp_path / "d.toml").write_text(
        'folder = "p"\nlabels = "folders"\nscale = 0.5\nmean = [1, 2, 3]\nstd = [1, 2, 4]\n')
    d = load(tmp_path / "d.toml", model(("image", "float32", shape)))
    want = (pixels[[1, 0]] * np.float32(0.5) - np.float32([1, 2, 3])) / np.float32([1, 2, 4])
    got = np.concatenate([d[k]["image"] for k in range(2)])
    np.testing.assert_allclose(got if shape[3] == 3 else got.transpose(0, 2, 3, 1), want, rtol=1e-6)
    assert d.labels.tolist() == [0, 1]


def test_pictures_are_resized_and_made_grey(tmp_path):
    image_file(tmp_path / "p" / "x.png", np.full((8, 10, 3), 51, np.uint8))
    (tmp_path / "d.toml").write_text('folder = "p"\nresize = [4, 6]\ngrey = true\nscale = 0.00392156862745\n')
    d = load(tmp_path / "d.toml", model(("image", "float32", (1, 1, 4, 6))))
    np.testing.assert_allclose(d[0]["image"], np.full((1, 1, 4, 6), 0.2), rtol=1e-5)


def test_sound_is_cut_and_filled(tmp_path):
    (tmp_path / "s").mkdir()
    sound_file(tmp_path / "s" / "a.wav", [16384, -32768])
    sound_file(tmp_path / "s" / "b.wav", [0, 16384] * 4, channels=2)
    (tmp_path / "s" / "l.csv").write_text("b.wav,3\n")
    declared = 'folder = "s"\nlength = 3\nrate = 8000\nlabels = "l.csv"\nfiles = "*.wav"\n'
    (tmp_path / "d.toml").write_text(declared)
    d = load(tmp_path / "d.toml", model(("x", "float32", (1, 3))))
    np.testing.assert_array_equal(d.inputs["x"].reshape(2, 3), np.float32([[0.5, -1, 0], [0.25, 0.25, 0.25]]))
    assert d.labels.tolist() == [-1, 3]
    (tmp_path / "d.toml").write_text(declared.replace("8000", "16000"))
    with pytest.raises(UsageError, match="sampling rate is 8000, declared is 16000"):
        load(tmp_path / "d.toml", model(("x", "float32", (1, 3))))


def test_a_function(tmp_path, monkeypatch):
    (tmp_path / "my_samples.py").write_text(
        "import numpy as np\n\ndef both():\n"
        "    return {'a': np.ones((4, 2), np.float32), 'b': np.zeros((4, 3), np.float32)}\n"
        "\ndef one():\n    return np.ones((5, 2), np.float32)\n\ndef bad():\n    raise RuntimeError('no disk')\n")
    monkeypatch.chdir(tmp_path)
    d = load("my_samples:both", model(("a", "float32", (1, 2)), ("b", "float32", (1, 3))))
    assert len(d) == 4 and d[3]["b"].shape == (1, 3)
    assert len(load("my_samples:one", model(("a", "float32", (1, 2))))) == 5
    for name, what in (("my_samples:bad", "no disk"), ("my_samples:none", "AttributeError"), ("no_module:f", "Module")):
        with pytest.raises(UsageError, match=what):
            load(name, model(("a", "float32", (1, 2))))


@pytest.mark.parametrize(("text", "what"), [
    ('folder = "p"\ncolour = 1', "unknown key 'colour'"), ("scale = 1", "no key 'folder'"), ("=", "cannot be read"),
    ('folder = "empty"', "no files"), ('folder = "mixed"', "different shapes"), ('folder = "broken"', "cannot be read"),
])
def test_refusals(tmp_path, text, what):
    for name in ("empty", "mixed", "broken"):
        (tmp_path / name).mkdir()
    np.save(tmp_path / "mixed" / "a.npy", np.ones(3))
    np.save(tmp_path / "mixed" / "b.npy", np.ones(4))
    (tmp_path / "broken" / "a.npy").write_bytes(b"PK")
    (tmp_path / "d.toml").write_text(text)
    with pytest.raises(UsageError, match=what) as e:
        load(tmp_path / "d.toml", model(("x", "float32", (1, 2))))
    assert e.value.where and e.value.fix
