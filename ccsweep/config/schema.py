"""The schema of a run: one dataclass a group; names, types, and what else must be known of a key.

YAML alone accepts ``learning_rate: abc``; a typed schema does not: Hydra checks against these classes while
it composes, and ``ccsweep.config.check`` against the ranges. Beside its type a key may have a range, a string
that says it in an error, and roles (``ccsweep.config.marks``). Values stand in ``conf/``, each with what its
key means, and not here: only what a network is built from in Python, ranks and estimator, has defaults here
too, and a test holds them to those of ``conf/``.
"""

from dataclasses import dataclass, field
from math import isfinite
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt, Predicate

from ccsweep.config.marks import Count, NotNegative, OneOf, Part, Positive, Role, Seed
from ccsweep.figures import VALIDATION_ERROR


@dataclass(frozen=True)
class About:
    """What a task is about: data and a network to train, a run that was trained, a study, or a model."""

    run: bool = False
    study: bool = False
    trials: bool = False
    """Whether ``-m`` may run many of it."""
    model: bool = False
    """Whether it is about a model in a file."""


TASKS = {
    "train": About(trials=True),
    "evaluate": About(run=True, trials=True),
    "benchmark": About(run=True),
    "accelerate": About(model=True),
    "sweep_status": About(study=True),
    "sweep_finish": About(study=True),
    "confirm": About(study=True),
    "export": About(study=True),
    "doctor": About(),
}
"""Each is the function of its name in the module ``ccsweep.tasks.NAME``."""


@dataclass
class DataConfig:
    """Which images, from where, how many are held out."""

    name: str
    features: Annotated[int | None, Gt(0), "a positive number of inputs"]
    classes: Annotated[int | None, Ge(2), "at least 2 classes"]
    dir: Annotated[str | None, Role.MACHINE, Role.RESUME, Role.RUN]
    verify: Annotated[bool, Role.MACHINE, Role.RUN]
    stand_in: str | None
    extra: bool
    samples: int | None
    file: Annotated[str | None, Role.RESUME, Role.RUN]
    label: str | None
    group: str | None
    split: str | None
    scale: Annotated[str | None, OneOf(("standard", "max", "none"))]
    loader: str | None

    @property
    def own(self) -> dict[str, str | None]:
        """What only one's own data have."""
        return {key: getattr(self, key) for key in ("file", "label", "group", "split", "scale", "loader")}


@dataclass
class ArchitectureConfig:
    """Units of each hidden layer; input and output sizes follow from the data."""

    hidden: list[int]


@dataclass
class RanksConfig:
    """One rank per hidden layer, a share of spectral energy, a share of the work, or none (the control)."""

    layers: list[int] | None = None
    energy: Annotated[float | None, Gt(0), Le(1), "a share above 0 and at most 1"] = None
    budget: Annotated[float | None, Gt(0), Le(1), "a share above 0 and at most 1"] = None


@dataclass
class EstimatorConfig:
    """How the sign of a pre-activation is guessed."""

    name: str
    threshold: Annotated[float, Predicate(isfinite), "a finite number"] = 0.0
    energy_loss: Annotated[float | None, Gt(0), Lt(1), "a share above 0 and below 1, or null"] = None
    density: Annotated[float | None, Gt(0), Le(1), "a share above 0 and at most 1, or null"] = None
    calibration: Annotated[int, Gt(0), "a positive number of training images"] = 2000
    moments: Annotated[str, OneOf(("calibration", "running"))] = "calibration"
    refresh: Annotated[str, OneOf(("full", "randomised", "warm"))] = "full"
    refresh_steps: Annotated[int | None, Gt(0), "a positive number, or null"] = None
    gate_in_training: Annotated[
        bool | int, Ge(0), "true, false, or the epoch to start in, counted from 0"
    ] = True
    placement: Annotated[str, OneOf(("all", "first"))] = "all"

    def gates_in_training(self, epoch: int) -> bool:
        """Whether the gate is on while epoch ``epoch``, counted from 0, trains."""
        start = self.gate_in_training
        return start if isinstance(start, bool) else epoch >= start

    def gated_layers(self, ranks: RanksConfig, hidden: int) -> int:
        """How many of ``hidden`` layers have an estimator, from the first."""
        return 0 if ranks == RanksConfig() else 1 if self.placement == "first" else hidden


@dataclass
class TrainingConfig:
    """Optimisation, regularisation, initialisation, and when to stop."""

    epochs: Annotated[Count, Role.RESUME]
    batch_size: Count
    learning_rate: Positive
    learning_rate_decay: Positive
    momentum: Part
    momentum_growth: Positive
    momentum_max: Part
    max_norm: Annotated[float | None, Gt(0), "a positive number, or null for none"]
    l1: NotNegative
    l2: NotNegative
    dropout_input: Part
    dropout_hidden: Part
    weight_std: NotNegative
    bias: float
    source: str
    verified: bool
    seed: Seed
    device: Annotated[str, OneOf(("auto", "cpu", "cuda")), Role.MACHINE, Role.RUN]
    precision: Annotated[str, OneOf(("float32", "bfloat16")), Role.RUN]
    step: Annotated[str, OneOf(("auto", "dense", "skipping")), Role.MACHINE, Role.RESUME]
    patience: Annotated[int | None, Gt(0), "a positive number of epochs, or null"]
    max_minutes: Annotated[float | None, Gt(0), "a positive time, or null", Role.RESUME]
    resume: Annotated[str | None, Role.COMMAND]


@dataclass
class TrackingConfig:
    """Where runs are stored."""

    uri: str | None
    sweep: str | None
    register: str | None
    system_metrics: bool
    patience: Annotated[float, Ge(0), "a number of minutes, 0 or more"]


@dataclass
class SweepConfig:
    """A study: what is searched, for what, by what and how far; read by ``-m`` and by tasks about studies."""

    name: str | None
    space: dict[str, str]
    conditions: dict[str, str]
    points: list[str]
    __annotations__["from"] = str | None  # a word that Python keeps for itself
    locals()["from"] = field(default=None, init=False, repr=False, compare=False)
    objectives: Annotated[dict[str, str], OneOf(("minimize", "maximize"))]
    constraints: list[str]
    sampler: Annotated[str | None, OneOf(("tpe", "nsgaii", "gp", "random", "grid"))]
    seed: Seed
    n_trials: Annotated[int | None, Gt(0), "a positive number of trials, or null"]
    minutes: Annotated[float | None, Gt(0), "a positive number of minutes, or null"]
    patience: Annotated[int | None, Gt(0), "a positive number of trials, or null"]
    pruning: Annotated[str | None, OneOf((VALIDATION_ERROR.metric, "validation/loss"))]  # less is better
    workers: Annotated[int | str, Predicate(lambda n: n == "auto" or n in range(1, 10**6)), "1 or more"]
    workers_per_gpu: Annotated[int, Ge(1), "1 or more"]
    cluster: Annotated[str, OneOf(("local", "slurm"))]
    slurm: dict[str, Any]
    retries: Annotated[int, Ge(0), "0 or more"]
    trial_timeout: Annotated[float | None, Gt(0), "a positive number of minutes, or null"]
    timing_on: str | None
    storage: str | None
    preview: Annotated[int | None, Gt(0), "a positive number of points, or null"]
    paper: dict[str, float]


@dataclass
class Config:
    """Everything a run needs to know."""

    task: Annotated[str, OneOf(TASKS), Role.SAME]
    run: str | None
    model: Annotated[str | None, Role.COMMAND]
    keep: Annotated[str | None, OneOf(("argmax", "sign", "values")), Role.COMMAND]
    max_disagreement: Annotated[float, Ge(0), Lt(1), "a share, at least 0 and below 1", Role.COMMAND]
    pick: Annotated[str, Role.STUDY]
    to: Annotated[str | None, Role.STUDY]
    format: Annotated[str | None, OneOf(("json", "csv")), Role.STUDY]
    seeds: Annotated[int, Role.STUDY]
    test: Annotated[bool, Role.COMMAND, Role.RUN]
    data: DataConfig
    architecture: ArchitectureConfig
    ranks: Annotated[RanksConfig, Role.RUN]
    estimator: Annotated[EstimatorConfig, Role.RUN]
    training: TrainingConfig
    tracking: Annotated[TrackingConfig, Role.COMMAND, Role.RESUME, Role.RUN]
    sweep: Annotated[SweepConfig, Role.STUDY]

    @property
    def layer_sizes(self) -> list[int]:
        """Input, hidden and output sizes, e.g. ``[784, 1000, 600, 400, 10]``; known once data are read."""
        features, classes = self.data.features, self.data.classes
        assert features is not None
        assert classes is not None
        return [features, *self.architecture.hidden, classes]

    @property
    def rank_notation(self) -> str:
        """``50-35-25`` as in the paper, ``50`` where only the first layer has an estimator, ``control``,
        ``energy0.9`` or ``budget0.1``."""
        ranks = self.ranks
        if ranks.layers is not None:
            return "-".join(map(str, ranks.layers[: self.gated_layers]))
        if ranks.budget is not None:
            return f"budget{ranks.budget:g}"
        return "control" if ranks.energy is None else f"energy{ranks.energy:g}"

    @property
    def of_a_search(self) -> bool:
        """Whether this is one of many trials, of which only those on the front will be looked at."""
        return self.tracking.sweep is not None and bool(self.sweep.objectives)

    @property
    def gated_layers(self) -> int:
        """How many hidden layers have an estimator, from the first."""
        return self.estimator.gated_layers(self.ranks, len(self.architecture.hidden))
