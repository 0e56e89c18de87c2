"""Files of one's own: every form that is read, and one line for each that is not right."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ccsweep.data.own.reading import read
from ccsweep.errors import UserError

X = np.arange(12.0).reshape(6, 2)
Y = np.array([0, 1, 0, 1, 0, 1])


def refusal(path: Path, label: str | None = None, group: str | None = None, split: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        read(path, label, group, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("keys", [("X", "y"), ("images", "labels"), ("data", "target")])
def test_npz(tmp_path, keys):
    np.savez(tmp_path / "mine.npz", **dict(zip(keys, (X, Y), strict=True)))
    found = read(tmp_path / "mine.npz", None, None, None)
    assert np.array_equal(found.inputs, X)
    assert np.array_equal(found.labels, Y)
    assert found.groups is None
    assert found.parts is None


@pytest.mark.parametrize("names", ["x_{}", "{}_images"])
def test_npz_with_splits(tmp_path, names):
    labels = names.replace("x_", "y_").replace("images", "labels")
    arrays = {names.format("train"): X, names.format("test"): X + 100, names.format("val"): X - 100}
    arrays |= {labels.format(part): Y for part in ("train", "test", "val")}
    np.savez(tmp_path / "mine.npz", **arrays)
    found = read(tmp_path / "mine.npz", None, None, None)
    for part, shift in (("train", 0), ("test", 100), ("validation", -100)):
        assert np.array_equal(found.inputs[found.parts == part], X + shift)


def test_npz_with_named_arrays(tmp_path):
    np.savez(
        tmp_path / "mine.npz", X=X, kind=Y, patient=Y, fold=["train", "train", "val", "test", "valid", "TEST"]
    )
    found = read(tmp_path / "mine.npz", "kind", "patient", "fold")
    assert np.array_equal(found.labels, Y)
    assert np.array_equal(found.groups, Y)
    assert list(found.parts) == ["train", "train", "validation", "test", "validation", "test"]


def test_pair_of_npy(tmp_path):
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", Y)
    assert np.array_equal(read(tmp_path / "X.npy", str(tmp_path / "y.npy"), None, None).labels, Y)
    path = tmp_path / "X.npy"
    assert refusal(path) == f"data.file={path}: where are the labels? Name their file, as in data.label=y.npy"
    assert refusal(path, "z.npy") == f"data.label=z.npy: there is no such file in {Path.cwd()}; give its path"
    assert (
        refusal(path, "y.npy", "who")
        == f"data.group=who: {path} has no columns and no keys; leave data.group out"
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables(tmp_path, suffix):
    table = pd.DataFrame({"a": X[:, 0], "who": list("aabbcc"), "species": list("xyxyxy"), "b": X[:, 1] > 3})
    path = tmp_path / f"mine.{suffix}"
    if suffix == "csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    found = read(path, "species", "who", None)
    assert found.columns == ["a", "b"]
    assert np.array_equal(found.inputs, np.stack([X[:, 0], X[:, 1] > 3], axis=1))
    assert list(found.labels) == list("xyxyxy")
    assert list(found.groups) == list("aabbcc")
    assert refusal(path) == f"data.label=label: {path} has no such column; it has a, who, species, b"
    assert (
        refusal(path, "species", "whom")
        == f"data.group=whom: {path} has no such column; it has a, who, species, b"
    )
    assert refusal(path, "species") == (
        f"data.file={path}: column who holds 'a', and no numbers; write it as numbers "
        "(a column of 0 and 1 for each value), or leave it out; data.label= names the labels"
    )


def test_table_with_a_gap(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("a,b,label\n1,2,0\n3,,1\n")
    assert refusal(path) == f"data.file={path}: column b has no value in row 2; fill it in, or leave it out"


def test_table_of_labels_alone(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("label\n0\n1\n")
    assert refusal(path) == f"data.file={path}: has no column beside label; expected some of numbers"


def folder_of_images(folder: Path, parts: tuple[str, ...] = ("",), size: tuple[int, int] = (3, 2)) -> Path:
    for part in parts:
        for name, shade in (("cat", 10), ("dog", 200)):
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            for number in range(2):
                Image.new("L", size, shade + number).save(folder / part / name / f"{number}.png")
    return folder


def test_folder_of_images(tmp_path):
    found = read(folder_of_images(tmp_path / "pets"), None, None, None)
    assert found.inputs.shape == (4, 2, 3)
    assert found.inputs[:, 0, 0].tolist() == [10, 11, 200, 201]
    assert list(found.labels) == ["cat", "cat", "dog", "dog"]
    assert found.parts is None


def test_folder_of_images_with_splits(tmp_path):
    found = read(folder_of_images(tmp_path / "pets", ("train", "val", "test")), None, None, None)
    assert sorted(set(found.parts)) == ["test", "train", "validation"]
    assert found.inputs.shape == (12, 2, 3)


def test_images_of_two_sizes_and_a_broken_one(tmp_path):
    folder = folder_of_images(tmp_path / "pets")
    Image.new("RGB", (5, 4)).save(folder / "dog" / "2.png")
    assert refusal(folder) == (
        f"data.file={folder}: {folder}/dog/2.png is 5x4 colour and {folder}/cat/0.png 3x2 grey; "
        "expected images of one size and mode"
    )
    (folder / "dog" / "2.png").write_bytes(b"no image")
    assert refusal(folder).startswith(f"{folder}/dog/2.png: is no whole image (")


def test_what_cannot_be_read(tmp_path):
    kinds = ".npz, .npy, .csv, .parquet, or a folder with a subfolder of images for each class"
    missing, other, empty = tmp_path / "x.npz", tmp_path / "x.h5", tmp_path / "empty"
    other.touch()
    empty.mkdir()
    assert refusal(missing) == f"data.file={missing}: there is no such file in {Path.cwd()}; give its path"
    assert refusal(other) == f"data.file={other}: cannot be read; expected {kinds}"
    assert refusal(empty) == f"data.file={empty}: holds no images; expected {kinds}"


def test_damaged_and_dangerous_files(tmp_path):
    cut, pickled, empty = tmp_path / "cut.npz", tmp_path / "pickled.npz", tmp_path / "empty.csv"
    np.savez(cut, X=X, y=Y)
    cut.write_bytes(cut.read_bytes()[:200])
    assert refusal(cut) == f"data.file={cut}: cannot be read (it is no whole .npz)"
    np.savez(pickled, X=np.array([{"a": 1}, None], dtype=object), y=Y[:2])
    assert refusal(pickled) == (
        f"data.file={pickled}: cannot be read (it holds Python objects, which may run anything when read; "
        "save plain numbers)"
    )
    empty.touch()
    assert refusal(empty) == f"data.file={empty}: cannot be read (No columns to parse from file)"
    (tmp_path / "mine.json").write_text(json.dumps({}))


def test_npz_without_what_is_needed(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, X=X, weights=Y)
    assert refusal(path) == (
        f"data.file={path}: has X, weights; expected X and y, or images and labels, or x_train, y_train, x_test, y_test"
    )
    assert refusal(path, "kind") == f"data.label=kind: data.file={path} has no such array; it has X, weights"
    np.savez(path, x_train=X, y_train=Y, x_test=X[:, :1], y_test=Y)
    assert refusal(path) == f"data.file={path}: the parts have inputs of shapes (1,), (2,); expected one"
    np.savez(path, x_train=X, y_train=Y[:-1], x_test=X, y_test=Y)
    assert (
        refusal(path) == f"data.file={path}, train: inputs (6, 2) and labels (5,); expected as many of both"
    )
    np.savez(path, X=X, y=Y, fold=["train", "train", "train", "test", "dev", "test"])
    assert (
        refusal(path, split="fold")
        == f"data.file={path}: a split is called dev; expected train, validation or test"
    )
