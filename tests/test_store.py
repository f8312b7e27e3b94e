"""A package directory is written whole or not at all, and never over something that is not ours."""

import json
import os

import pytest

from edgec import store
from edgec.errors import UsageError

OURS = {"format": store.FORMAT, "tool": {"name": "edgec", "version": "0"}}


def write_package(out, **files):
    with store.staged(out) as stage:
        store.write_files(stage, files)
        store.write_files(stage, {store.MANIFEST: store.json_text(OURS | {"files": store.hashes(stage)})})


def test_new_package_with_parents(tmp_path):
    write_package(tmp_path / "a" / "b", **{"x.c": "int x;\n", "runtime/y.h": b"\x00"})
    assert (tmp_path / "a/b/x.c").read_bytes() == b"int x;\n"
    assert os.listdir(tmp_path / "a") == ["b"]
    assert list(store.read_manifest(tmp_path / "a/b")["files"]) == ["runtime/y.h", "x.c"]


def test_nothing_is_left_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), store.staged(tmp_path / "a" / "b") as stage:
        store.write_files(stage, {"x.c": "half"})
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_previous_package_survives_an_error(tmp_path):
    write_package(tmp_path / "p", **{"x.c": "old"})
    with pytest.raises(KeyboardInterrupt), store.staged(tmp_path / "p") as stage:
        store.write_files(stage, {"x.c": "new"})
        raise KeyboardInterrupt
    assert (tmp_path / "p/x.c").read_text() == "old"
    assert os.listdir(tmp_path) == ["p"]


def test_replacing_drops_our_old_files_and_keeps_the_users(tmp_path):
    write_package(tmp_path / "p", **{"old.c": "old", "x.c": "old"})
    (tmp_path / "p/sub").mkdir()
    (tmp_path / "p/sub/mine.txt").write_text("mine")
    write_package(tmp_path / "p", **{"x.c": "new"})
    found = {p.relative_to(tmp_path / "p").as_posix() for p in (tmp_path / "p").rglob("*") if p.is_file()}
    assert found == {"x.c", "sub/mine.txt", "manifest.json"}
    assert (tmp_path / "p/x.c").read_text() == "new"
    assert os.listdir(tmp_path) == ["p"]


def test_empty_directory_is_taken(tmp_path):
    (tmp_path / "p").mkdir()
    write_package(tmp_path / "p", **{"x.c": "new"})
    assert (tmp_path / "p/x.c").read_text() == "new"


@pytest.mark.parametrize("manifest", [None, "{", "[]", "{}", json.dumps({"tool": {"name": "other"}})])
def test_a_directory_that_is_not_ours_is_refused(tmp_path, manifest):
    (tmp_path / "p").mkdir()
    (tmp_path / "p/thesis.tex").write_text("years of work")
    if manifest is not None:
        (tmp_path / "p/manifest.json").write_text(manifest)
    with pytest.raises(UsageError, match="did not write"):
        write_package(tmp_path / "p", **{"x.c": "new"})
    assert (tmp_path / "p/thesis.tex").read_text() == "years of work"
    assert not (tmp_path / "p/x.c").exists()


def test_output_is_a_file_or_below_one(tmp_path):
    (tmp_path / "f").write_text("")
    for out in (tmp_path / "f", tmp_path / "f" / "p", tmp_path / "f" / "a" / "b"):
        with pytest.raises(UsageError), store.staged(out):
            raise AssertionError("entered")
    assert os.listdir(tmp_path) == ["f"]


def test_a_directory_made_meanwhile_by_someone_else_is_kept(tmp_path):
    """Parents that were made are removed only while they are empty."""
    with pytest.raises(ZeroDivisionError), store.staged(tmp_path / "a" / "b"):
        (tmp_path / "a/theirs").write_text("")
        raise ZeroDivisionError
    assert os.listdir(tmp_path / "a") == ["theirs"]


@pytest.mark.parametrize(
    "text, what", [("", "cannot be read"), ('{"tool": {"name": "edgec"}, "format": 99}', "format 99")]
)
def test_unreadable_manifest(tmp_path, text, what):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UsageError, match=what):
        store.read_manifest(tmp_path)


def test_write_file_is_atomic(tmp_path):
    store.write_file(tmp_path / "n" / "q.onnx", b"1")
    assert (tmp_path / "n/q.onnx").read_bytes() == b"1"
    (tmp_path / "d").mkdir()
    with pytest.raises(UsageError, match="cannot write"):
        store.write_file(tmp_path / "d", b"2")
    assert sorted(os.listdir(tmp_path)) == ["d", "n"]
