"""One's own data as a data set: classes, splits by rule, scale, and what is refused."""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ccsweep.data import load
from ccsweep.data.own import arrays
from ccsweep.errors import UserError


@pytest.fixture
def save(tmp_path):
    def to(**content) -> str:
        np.savez(tmp_path / "mine.npz", **content)
        return str(tmp_path / "mine.npz")

    return to


def refusal(**options) -> str:
    with pytest.raises(UserError) as caught:
        load("arrays", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, (100, 4))
Y = np.arange(100) % 3


def test_classes_features_and_names_are_what_is_there(save):
    data = load("arrays", file=save(X=X.reshape(100, 2, 2), y=np.array(["c", "a", "b"])[Y]))
    assert (data.name, data.label, data.shape, data.features, data.classes) == ("mine", "mine", (2, 2), 4, 3)
    assert data.class_names == ("a", "b", "c")
    first = data.train.labels[:2].tolist()
    assert first == [2, 0]  # c, a


def test_the_rule_of_the_splits(save):
    data = load("arrays", file=save(X=X, y=Y), scale="none")
    of_class_0 = X[::3].astype(np.float32)
    assert torch.equal(
        data.test.images[data.test.labels == 0], torch.from_numpy(of_class_0[[2, 7, 12, 17, 22, 27, 32]])
    )
    assert torch.equal(
        data.validation.images[data.validation.labels == 0], torch.from_numpy(of_class_0[[4, 14, 24]])
    )
    sizes = [len(part.labels) for part in (data.train, data.validation, data.test)]
    assert sizes == [100 - 9 - 21, 9, 21]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=80), st.integers(0, 10))
def test_more_rows_change_no_earlier_ones_part(labels, more):
    before = arrays.split(np.array(labels), None)
    after = arrays.split(np.array(labels + [0] * more), None)
    assert np.array_equal(before, after[: len(labels)])


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=1, max_size=80))
def test_groups_stay_together(rows):
    labels, groups = np.array(rows).T
    parts = arrays.split(labels, groups.astype(str))
    for group in set(groups):
        assert len(set(parts[groups == group])) == 1


def test_groups_of_a_file(save):
    who = np.repeat(np.arange(20), 5)
    data = load(
        "arrays", file=save(X=np.column_stack([who, X]), y=who % 2, who=who), group="who", scale="none"
    )
    seen = [set(part.images[:, 0].int().tolist()) for part in (data.train, data.validation, data.test)]
    assert seen[1] == {8, 9}  # the fifth group of either class
    assert seen[2] == {4, 5, 14, 15}
    assert seen[0].isdisjoint(seen[1] | seen[2])


def test_given_splits_are_taken(save):
    data = load("arrays", file=save(x_train=X, y_train=Y, x_test=X + 50, y_test=Y), scale="none")
    assert torch.equal(data.test.images, torch.from_numpy((X + 50).astype(np.float32)))
    assert len(data.validation.labels) == 9  # the fifth of ten training rows of each class
    assert len(data.train.labels) == 91


def test_standard_scale_is_of_training_rows_alone(save):
    x = X.copy()
    x[:, 3] = 7.5  # a constant
    data = load("arrays", file=save(X=x, y=Y))
    assert torch.allclose(data.train.images.mean(0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(data.train.images.std(0, correction=0)[:3], torch.ones(3), atol=1e-5)
    assert torch.equal(data.train.images[:, 3], torch.zeros(len(data.train.labels)))
    assert not torch.allclose(data.test.images.mean(0)[:3], torch.zeros(3), atol=1e-3)
    raw = load("arrays", file=save(X=x, y=Y), scale="none")
    assert torch.allclose(data.scaling.undone(data.test.images), raw.test.images, atol=1e-5)
    assert data.digest != raw.digest
    assert raw.scaling is None


def test_max_scale_keeps_zeros(save):
    x = np.where(X > 3, X, 0.0)
    data = load("arrays", file=save(X=x, y=Y), scale="max")
    raw = load("arrays", file=save(X=x, y=Y), scale="none")
    assert float(data.train.images.max()) == 1.0
    assert torch.equal(data.test.images == 0, raw.test.images == 0)


def test_the_digest_is_of_the_content(save):
    first = load("arrays", file=save(X=X, y=Y)).digest
    assert load("arrays", file=save(X=X, y=Y)).digest == first
    changed = X.copy()
    changed[99, 3] += 1e-3
    assert load("arrays", file=save(X=changed, y=Y)).digest != first
    assert load("arrays", file=save(X=X, y=Y), samples=20).digest != first


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            {"y": np.where(Y == 0, np.nan, Y)},
            "the label of row 1 is nan; expected a whole number, or a word, in every row",
        ),
        (
            {"y": np.where(Y == 1, 1.5, Y)},
            "the label of row 2 is 1.5; expected a whole number, or a word, in every row",
        ),
        ({"y": Y[:-1]}, "inputs (100, 4) and labels (99,); expected as many of both"),
        ({"y": np.eye(3)[Y]}, "labels have the shape (100, 3); expected one a row, (rows,)"),
        ({"y": np.zeros(100)}, "has only the class 0; expected at least 2 classes"),
        ({"y": np.arange(100)}, "100 classes in 100 rows; expected labels that repeat, and no quantity"),
        ({"X": X[:, 0]}, "inputs have the shape (100,); expected (rows, features) or (rows, height, width)"),
        ({"X": X.astype(str)}, "inputs are <U32; expected numbers"),
        ({"X": X * 1e300}, "input 0 of row 1 is no finite 32-bit number; fill it in, or leave it out"),
        ({"X": X[:0], "y": Y[:0]}, "has no rows; expected at least 2 classes"),
    ],
)
def test_arrays_that_are_not_right(save, content, line):
    path = save(**{"X": X, "y": Y} | content)
    assert refusal(file=path) == f"data.file={path}: {line}"


def test_eight_rows_are_too_few(save):
    assert refusal(file=save(X=X[:8], y=Y[:8])) == (
        "mine: no validation images are left (6 train, 0 validation, 2 test); expected some in each: give more data"
    )


def test_what_names_no_data():
    assert refusal() == (
        "data.file=null: expected one's own data, as in data=arrays data.file=mine.npz; or data.loader=module:function"
    )
    with pytest.raises(UserError, match=r"data\.file=x\.npz: is for one's own data; add data=arrays"):
        load("digits", file="x.npz")


def test_a_function_instead_of_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_loader.py").write_text(
        "import numpy as np\n"
        "def pair(request):\n    return np.eye(40), np.arange(40) % 2\n"
        "def named(request):\n    return {'X': np.eye(40), 'y': np.arange(40) % 2}\n"
        "def whole(request):\n    from ccsweep.data.digits import load\n    return load(request)\n"
        "def nothing(request):\n    return None\n"
        "def wrong(request):\n    return request.file + 1\n"
    )
    pair, named = (load("arrays", loader=f"my_loader:{name}") for name in ("pair", "named"))
    assert (pair.label, pair.features, pair.classes) == ("pair", 40, 2)
    assert pair.digest == named.digest
    assert load("arrays", loader="my_loader:whole").label == "digits"
    assert refusal(loader="my_loader:nothing") == (
        "data.loader=my_loader:nothing: returned NoneType; expected (X, y), a dict of arrays with the keys of an .npz, "
        "or a ccsweep.data.dataset.Dataset"
    )
    assert refusal(loader="my_loader:absent") == (
        "data.loader=my_loader:absent: cannot be imported (module 'my_loader' has no attribute 'absent'); expected "
        f"module:function, in {tmp_path} or installed"
    )
    assert refusal(loader="my_loader:wrong") == (
        f"data.loader=my_loader:wrong: failed in {tmp_path}/my_loader.py:12 (TypeError: unsupported operand type(s) "
        "for +: 'NoneType' and 'int'); mend it"
    )
    assert refusal(loader=":").startswith("data.loader=:: cannot be imported (Empty module name); expected ")
    assert refusal(loader="nobody") == (
        "data.loader=nobody: expected module:function, or the name of an entry point in the group ccsweep.data "
        "(installed: none)"
    )


def test_an_entry_point_names_a_function(tmp_path, monkeypatch):
    package = tmp_path / "theirs-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[ccsweep.data]\nstars = theirs:load\n")
    (tmp_path / "theirs.py").write_text(
        "import numpy as np\ndef load(request):\n    return np.eye(40), np.arange(40) % 2\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load("arrays", loader="stars").label == "stars"
    assert "(installed: stars)" in refusal(loader="other")


@pytest.mark.slow
def test_the_bare_command_trains_and_its_model_takes_raw_inputs(tmp_path, user):
    rng = np.random.default_rng(1)
    y = np.arange(300) % 3
    x = rng.normal(0, 1, (300, 4)) * 100 + 1000 + 700 * y[:, None] * [1, 0, -1, 0]
    np.savez(tmp_path / "mine.npz", X=x, y=y)
    done = user.run("data=arrays", "data.file=mine.npz", "training.epochs=3", "tracking.system_metrics=false")
    assert done.returncode == 0, done.stderr
    assert "mine  4-256-128-3  ranks energy0.5" in done.stdout
    (run,) = user.runs()
    assert run.data.params["data.features"] == "4"
    answers = _served(user.folder, run.info.run_id, x).argmax(1)
    test = arrays.split(y, None) == "test"
    wrong = 100 * (answers[test] != y[test]).mean()
    assert wrong == pytest.approx(
        json.loads(next(user.folder.glob("outputs/*/report.json")).read_text())["test_error"]
    )


def _served(folder: Path, run_id: str, x: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about type hints in MLflow's own code
        import mlflow.pyfunc
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/outputs/mlflow.db")
    (output,) = client.get_run(run_id).outputs.model_outputs
    place = client.get_logged_model(output.model_id).artifact_location
    return np.asarray(mlflow.pyfunc.load_model(place).predict(x.astype(np.float32)))
