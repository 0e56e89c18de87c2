"""Every config composes; every mistake is one line with the key, what was found and what is expected."""

import pytest
from omegaconf import OmegaConf

from ccsweep.config.check import check
from ccsweep.config.composed import composed
from ccsweep.config.keys import known_keys
from ccsweep.config.places import groups, root
from tests.config.complaint import complaint


@pytest.mark.parametrize("name", groups()["experiment"])
def test_every_experiment_composes(name: str) -> None:
    config = check(composed([f"+experiment={name}"]))
    assert config.ranks.layers is not None
    assert len(config.ranks.layers) == len(config.architecture.hidden)


@pytest.mark.parametrize("name", groups()["sweeps"])
def test_every_sweep_composes(name: str) -> None:
    run = ["run=ID"] if name == "mnist_posthoc" else []  # of the network that it looks at
    check(composed([f"+sweeps={name}", *run]))


@pytest.mark.parametrize(
    ("group", "option"),
    [(g, o) for g, options in groups().items() for o in options if g not in ("experiment", "sweeps")],
)
def test_every_option_fits_the_schema(group: str, option: str) -> None:
    composed([f"{group}={option}"])


@pytest.mark.parametrize(
    "path", sorted((root() / "conf").rglob("*.yaml")) + sorted((root() / "sweeps").glob("*.yaml"))
)
def test_every_file_opens_with_a_line_on_what_it_is(path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("# @package")]
    assert lines[0].startswith("# ")


def test_the_papers_rows_are_there() -> None:
    svhn = {
        "200-100-75-15",
        "100-75-50-25",
        "100-75-50-15",
        "75-50-40-30",
        "50-40-40-35",
        "25-25-15-15",
    }
    mnist = {"50-35-25", "25-25-25", "15-10-5", "10-10-5"}
    for row in svhn | mnist:
        assert OmegaConf.load(root() / "conf/ranks" / f"{row}.yaml").layers == [
            int(rank) for rank in row.split("-")
        ]


def test_notation() -> None:
    assert check(composed(["+experiment=svhn"])).rank_notation == "75-50-40-30"
    assert check(composed(["ranks=control"])).rank_notation == "control"
    assert check(composed(["ranks=energy", "ranks.energy=0.9"])).rank_notation == "energy0.9"
    assert check(composed(["+experiment=mnist"])).layer_sizes == [784, 1000, 600, 400, 10]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ("+training.lr=0.1", "training.lr: no such key; did you mean 'training.learning_rate'?"),
        (
            "seeds=3",
            "seeds=3: repeats the rows of a multirun; add -m, or set training.seed for one run",
        ),
        ("+experimnt=svhn", "experimnt: no such key; did you mean 'experiment'?"),
        (
            "ranks.layers=[1]",
            "ranks.layers=[1]: expected 2 ranks, one per hidden layer of 64-256-128-10; found 1",
        ),
        (
            "ranks.layers=[65,16]",
            "ranks.layers[0]=65: expected 1 to 64, the smaller side of the 64x256 layer",
        ),
        (
            "ranks.layers=[0,16]",
            "ranks.layers[0]=0: expected 1 to 64, the smaller side of the 64x256 layer",
        ),
        (
            "ranks.layers=[[1,2],3]",
            "ranks.layers=[[1, 2], 3]: expected whole numbers, as in [40,30,20]",
        ),
        (
            "ranks.energy=0.5",
            "ranks.energy=0.5: expected null when ranks.layers is a list; add ranks.energy=null",
        ),
        (
            "ranks.budget=0.1",
            "ranks.budget=0.1: expected null when ranks.layers is a list; add ranks.budget=null",
        ),
        (
            "estimator.energy_loss=0",
            "estimator.energy_loss=0.0: expected a share above 0 and below 1, or null",
        ),
        (
            "estimator.energy_loss=1",
            "estimator.energy_loss=1.0: expected a share above 0 and below 1, or null",
        ),
        ("estimator.density=1.5", "estimator.density=1.5: expected a share above 0 and at most 1, or null"),
        ("estimator.calibration=0", "estimator.calibration=0: expected a positive number of training images"),
        (
            "estimator.moments=running",
            "estimator.moments=running: expected calibration with estimator.name=svd",
        ),
        (
            "estimator.refresh=ful",
            "estimator.refresh=ful: expected one of full, randomised, warm; did you mean 'full'?",
        ),
        (
            "estimator.gate_in_training=-1",
            "estimator.gate_in_training=-1: expected true, false, or the epoch to start in, counted from 0",
        ),
        ("estimator.placement=last", "estimator.placement=last: expected one of all, first"),
        (
            "training.dropout_hidden=-0.1",
            "training.dropout_hidden=-0.1: expected at least 0 and below 1",
        ),
        ("training.epochs=0", "training.epochs=0: expected a positive whole number"),
        (
            "training.device=gpu",
            "training.device=gpu: expected one of auto, cpu, cuda; did you mean 'cpu'?",
        ),
        (
            "task=trian",
            "task=trian: expected one of train, evaluate, benchmark, accelerate, sweep_status, sweep_finish, confirm, export, doctor; did you mean 'train'?",
        ),
        ("task=evaluate", "run=null: expected a run id or folder, as in task=evaluate run=ID"),
        ("task=benchmark", "run=null: expected a run id or folder, as in task=benchmark run=ID"),
        ("data.extra=true", "data.extra=true is for svhn, digits has no extra images: leave it out"),
        ("run=0123abc", "run=0123abc: expected null with task=train; add task=evaluate"),
        ("estimator.threshold=nan", "estimator.threshold=nan: expected a finite number"),
        ("data.samples=0", "data.samples=0 leaves nothing to train on: use 1 or more"),
        (
            "data.stand_in=mnist",
            "data.stand_in=mnist cannot stand in for digits: leave it out",
        ),
    ],
)
def test_mistakes(overrides: str, line: str) -> None:
    assert complaint(overrides) == line


def test_every_key_is_known() -> None:
    assert "training.learning_rate" in known_keys()
    assert "ranks.layers" in known_keys()


def test_every_estimator_has_its_config() -> None:
    from ccsweep.estimator import ESTIMATORS

    assert groups()["estimator"] == sorted(ESTIMATORS)
    assert all(estimator.name == name for name, estimator in ESTIMATORS.items())


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["estimator.energy_loss=0.01", "estimator.density=0.1"], "estimator.density=0.1: expected null when estimator.energy_loss is given"),
        (["estimator.energy_loss=0.01", "estimator.threshold=1"], "estimator.threshold=1.0: expected 0 when estimator.energy_loss sets the thresholds"),
        (["task=evaluate", "run=0123abc", "tracking.register=net"], "tracking.register=net: expected null with task=evaluate; task=benchmark logs a model"),
        (["task=benchmark", "run=0123abc", "tracking.sweep=outputs/x"], "task=benchmark: times one network a command, alone on the machine; leave -m out"),
        (["ranks=energy", "ranks.budget=0.1"], "ranks.energy=0.5: expected null when ranks.budget is given"),
        (["ranks=energy", "estimator.refresh=warm"], "estimator.refresh=warm: expected full unless ranks.layers is a list"),
    ],
)  # fmt: skip
def test_settings_that_exclude_each_other(overrides: list[str], line: str) -> None:
    assert complaint(*overrides) == line


@pytest.mark.parametrize(
    ("key", "good", "bad", "expected"),
    [
        ("data.features", ["64"], ["0"], "a positive number of inputs"),
        ("data.classes", ["2"], ["1"], "at least 2 classes"),
        ("architecture.hidden", ["[64,16]"], ["[]"], "at least one hidden layer"),
        ("architecture.hidden", ["[64,16]"], ["[64, 0]"], "a positive number of units per layer"),
        ("estimator.threshold", ["-1.0"], ["inf"], "a finite number"),
        ("estimator.energy_loss", ["null", "0.001", "0.999"], ["0.0", "1.0"], "a share above 0 and below 1, or null"),
        ("estimator.density", ["null", "0.001", "1.0"], ["0.0", "1.001"], "a share above 0 and at most 1, or null"),
        ("estimator.calibration", ["1"], ["0"], "a positive number of training images"),
        ("estimator.refresh_steps", ["null", "1"], ["0"], "a positive number, or null"),
        ("estimator.gate_in_training", ["true", "false", "0"], ["-1"], "true, false, or the epoch to start in, counted from 0"),
        ("training.epochs", ["1"], ["0"], "a positive whole number"),
        ("training.batch_size", ["1"], ["0"], "a positive whole number"),
        ("training.learning_rate", ["0.001"], ["0.0", "nan"], "a positive number"),
        ("training.learning_rate_decay", ["0.001"], ["0.0"], "a positive number"),
        ("training.momentum_growth", ["0.001"], ["0.0"], "a positive number"),
        ("training.momentum", ["0.0", "0.999"], ["-0.001", "1.0"], "at least 0 and below 1"),
        ("training.momentum_max", ["0.0", "0.999"], ["-0.001", "1.0"], "at least 0 and below 1"),
        ("training.dropout_input", ["0.0", "0.999"], ["-0.001", "1.0"], "at least 0 and below 1"),
        ("training.dropout_hidden", ["0.0", "0.999"], ["-0.001", "1.0"], "at least 0 and below 1"),
        ("training.l1", ["0.0"], ["-0.001"], "0 or more"),
        ("training.l2", ["0.0"], ["-0.001"], "0 or more"),
        ("training.weight_std", ["0.0"], ["-0.001"], "0 or more"),
        ("training.seed", ["0", "4294967295"], ["-1", "4294967296"], "0 or more, below 2 to the 32"),
        ("training.max_norm", ["null", "0.001"], ["0.0"], "a positive number, or null for none"),
        ("training.patience", ["null", "1"], ["0"], "a positive number of epochs, or null"),
        ("training.max_minutes", ["null", "0.001"], ["0.0"], "a positive time, or null"),
        ("training.precision", ["float32", "bfloat16"], ["double"], "one of float32, bfloat16"),
        ("sweep.name", ["null", "a"], ["./", "'~/'", "' '"], "a name, or the path of a folder"),
        ("sweep.sampler", ["null", "gp"], ["tpa"], "one of tpe, nsgaii, gp, random, grid; did you mean 'tpe'?"),
        ("sweep.pruning", ["null", "validation/loss"], ["loss"], "one of validation/error, validation/loss"),
        ("sweep.seed", ["0", "4294967295"], ["-1", "4294967296"], "0 or more, below 2 to the 32"),
        ("sweep.n_trials", ["null", "1"], ["0"], "a positive number of trials, or null"),
        ("sweep.workers", ["1"], ["0"], "1 or more"),
        ("sweep.cluster", ["slurm"], ["pbs"], "one of local, slurm"),
        ("sweep.retries", ["0"], ["-1"], "0 or more"),
        ("sweep.trial_timeout", ["null", "0.001"], ["0.0"], "a positive number of minutes, or null"),
        ("sweep.preview", ["null", "1"], ["0"], "a positive number of points, or null"),
    ],
)  # fmt: skip
def test_the_ends_of_ranges(key: str, good: list[str], bad: list[str], expected: str) -> None:
    for value in good:
        assert complaint(f"{key}={value}") == "nothing to complain about"
    for value in bad:
        shown = value.strip("'")
        assert complaint(f"{key}={value}") == f"{key}={shown}: expected {expected}"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["ranks=energy", "ranks.energy=0"], "ranks.energy=0.0: expected a share above 0 and at most 1"),
        (["ranks=budget", "ranks.budget=1.1"], "ranks.budget=1.1: expected a share above 0 and at most 1"),
        (["ranks=energy", "ranks.energy=1"], None),
        (["ranks.energy=2"], "ranks.energy=2.0: expected null when ranks.layers is a list; add ranks.energy=null"),
        (["ranks.layers=[64,128]"], None),
        (["ranks.layers=[64,129]"], "ranks.layers[1]=129: expected 1 to 128, the smaller side of the 256x128 layer"),
        (["ranks=control", "estimator.refresh=warm"], None),
        (["estimator=random", "estimator.moments=running"], "estimator.moments=running: expected calibration with estimator.name=random"),
        (["estimator=whitened", "estimator.moments=running"], None),
        (["estimator.density=0.5", "estimator.threshold=-1"], "estimator.threshold=-1.0: expected 0 when estimator.density sets the thresholds"),
        (["estimator.name=svdd"], "estimator.name=svdd: expected one of learned, random, svd, whitened, whitened-centred; did you mean 'svd'?"),
        (["+sweep.objectives.density=minimise"], "sweep.objectives.density=minimise: expected one of minimize, maximize; did you mean 'minimize'?"),
        (["task=sweep_status"], "sweep.name=null: expected the name of a study, or its folder"),
        (["task=export", "sweep.name=s", "tracking.sweep=s"], "task=export: is about a study, and no trial; leave -m out"),
        (["task=export", "sweep.name=s", "training.epochs=0"], None),
        (["task=evaluate", "run=0123abc", "training.epochs=0"], None),
        (["training.resume=0123abc", "training.epochs=0"], None),
        (["task=benchmark", "run=0123abc", "tracking.register=net"], None),
        (["task=evaluate", "run=0123abc", "tracking.sweep=s"], None),
        (["seeds=3", "tracking.sweep=s"], None),
        (["+sweep.slurm.partition=gpu"], None),
        (["+training.lrs=1", "+training.epoch=1", "+training.seeds=1"], "training.epoch: no such key; did you mean 'training.epochs'?"),
        (["training.seed=???"], "training.seed has no value; expected one from its config group or training.seed=..."),
    ],
)  # fmt: skip
def test_what_goes_together_and_what_does_not(overrides: list[str], line: str | None) -> None:
    assert complaint(*overrides) == (line or "nothing to complain about")
