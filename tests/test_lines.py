"""One line for every mistake that a person made on a command line, as the program says it."""

from pathlib import Path

import pytest

from benchmarks.fuzz import answer

SPACE = "expected choice(a,b), range(1,10) or interval(0,1)"
AIM = ["+sweep.objectives.validation_error=minimize", "sweep.n_trials=3"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["ranks=control", "ranks.layers.0=4"], "ranks.layers.0=4: ranks.layers is no list with an item 0; give it whole, as 'ranks.layers=[...]'"),
        (["-m", "+sweeps=digits_pareto", "ranks=control"], "ranks.layers.0=16: ranks.layers is no list with an item 0; give it whole, as 'ranks.layers=[...]'"),
        (["ranks.layers.a=1"], "ranks.layers.a=1: ranks.layers is no list with an item a; give it whole, as 'ranks.layers=[...]'"),
        (["architecture.hidden=[[8,8]]"], "architecture.hidden=[[8, 8]]: expected whole numbers, as in [256,128]"),
        (["training.epochs=9223372036854775808"], "training.epochs=9223372036854775808: expected a whole number below 2 to the 63"),
        (["training.learning_rate=1e39"], "training.learning_rate=1e+39: expected a number that float32 holds, below 3.4e38"),
        (["training.max_norm=inf"], "training.max_norm=inf: expected a finite number"),
        (["training.max_minutes=nan"], "training.max_minutes=nan: expected a positive time, or null"),
        (["architecture.hidden=[1000000,1000000]", "ranks=control"], "architecture.hidden=[1000000, 1000000]: expected a network that fits into the "),
        (["+training.epochs=1"], "training.epochs: has a value already; write training.epochs=... without the plus"),
        (["sweep.space={training.l1:'choice(0,1)'}"], "sweep.space.training.l1: is not there; add it with a plus, as in '+sweep.space={...}' or '+sweep.space.training.l1=...'"),
        (["sweep.space.training.l1=1"], "sweep.space.training"),
        (["--foo"], "unrecognized arguments: --foo; python -m ccsweep --hydra-help lists the flags"),
        (
            ["training.epochs=1", "--config-dir=places", "seeds=1"],
            "unrecognized arguments: seeds=1; flags go before all overrides, or after them; "
            "python -m ccsweep --hydra-help lists the flags",
        ),
        (["--experimental-rerun=x.pickle"], "--experimental-rerun: is not supported; give the command of that run again"),
        (["-m", "training.l1=interval(0,inf)", *AIM], f"sweep.space: training.l1=interval(0,inf): the ends of an interval are finite numbers, below 2 to the 63; {SPACE}"),
        (["-m", "training.l1=interval(nan,1)", *AIM], f"sweep.space: training.l1=interval(nan,1): the ends of an interval are finite numbers, below 2 to the 63; {SPACE}"),
        (["-m", "training.seed=range(0,1000000000)"], f"sweep.space: training.seed=range(0,1000000000): the range has 1,000,000,000 values, more than 100,000; {SPACE}"),
        (["-m", "training.seed=range(0,1000)", "training.epochs=range(1,1001)"], "sweep.space: has 1,000,000 points, and a grid runs them all; expected at most 100,000, or sweep.objectives, which searches"),
        (["-m", "+sweep.space={sweep.workers:'choice(1,2)'}", *AIM], "sweep.space: sweep.workers=choice(1,2): is the same for all trials; expected one value"),
        (["-m", "+sweep.space={hydra.verbose:'choice(1,2)'}", *AIM], "sweep.space: hydra.verbose=choice(1,2): is the same for all trials; expected one value"),
        (["-m", "+sweep.space={seeds:'choice(1,2)'}", *AIM], "sweep.space: seeds=choice(1,2): expected one number; seeds=3 is seeds 0, 1 and 2"),
        (["-m", "+sweep.space={training.l1:interval(0,1)}", *AIM], """a sweep within {...} is text; put it in quotes, as in "+sweep.space={training.l1:'interval(0,1)'}\""""),
        (["to=ä"], """to=ä: cannot be read as key=value; put the value in quotes, as in 'to='"'"'ä'"'"''"""),
        (["training.source=a=b"], """training.source=a=b: cannot be read as key=value; put the value in quotes, as in 'training.source='"'"'a=b'"'"''"""),
        (["task=confirm", "sweep.name=s", "seeds=0"], "seeds=0: expected 1 or more"),
        (["task=confirm", "sweep.name=s", "seeds=100001"], "seeds=100001: expected at most 100,000"),
        (["task=export", "sweep.name='a\tb'"], "sweep.name: 'a\\tb' has a character that is not printable in it; choose a folder of another name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_one_line(line: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = answer(line)
    assert found.status == 2
    (shown,) = found.err.splitlines()
    assert shown == f"ccsweep: {said}" or (shown.startswith(f"ccsweep: {said}") and not said.endswith("]"))
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize(
    "name", ["o'brien", 'a "quoted" one', "a,b", "a b", "ä ö", "a\\b", "a[1]", "a=b", "a'"]
)
def test_folders_of_odd_names_work(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    for line in (
        ["training.epochs=1"],
        ["-m", "training.seed=0,1"],
        ["-m", "data=digits", "training.l1=0,0.1"],
    ):
        found = answer(line)
        assert (found.status, found.err) == (0, "")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a${b}", "${"),
        ("a\nb", "a character that is not printable"),
        ("a\x07", "a character that is not printable"),
    ],
)
def test_folders_that_a_config_cannot_name_are_refused(
    name: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    found = answer(["training.epochs=1"])
    here = repr(str(tmp_path / name))
    assert found.status == 2
    assert (
        found.err
        == f"ccsweep: the working directory: {here} has {what} in it; choose a folder of another name\n"
    )


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    found = answer(["training.epochs=1"])
    assert (found.status, found.err) == (2, "ccsweep: the working directory is gone; cd to one that exists\n")


@pytest.mark.parametrize("choices", ['choice("it\'s",b)', "choice('a<b',b)", "'a,b','c|d'", 'choice("ä",b)'])
def test_odd_strings_can_be_swept(choices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = answer(["-m", f"training.source={choices}"])
    assert (found.status, found.err) == (0, "")
