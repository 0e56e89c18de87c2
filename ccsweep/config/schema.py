"""The schema of a run: one dataclass a group, names and types.

YAML alone accepts ``learning_rate: abc``; a typed schema does not: Hydra checks against these classes while
it composes. What each key means stands beside its value in ``conf/``; ``ccsweep.config`` checks the values.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class DataConfig:
    """Which images, from where, how many are held out."""

    name: str = MISSING
    features: int = MISSING
    classes: int = MISSING
    dir: str | None = None
    verify: bool = True
    stand_in: str | None = None
    extra: bool = False
    samples: int | None = None


@dataclass
class ArchitectureConfig:
    """Units of each hidden layer; input and output sizes follow from the data."""

    hidden: list[int] = MISSING


@dataclass
class RanksConfig:
    """One rank per hidden layer, a share of spectral energy, a share of the work, or none (the control)."""

    layers: list[int] | None = None
    energy: float | None = None
    budget: float | None = None


@dataclass
class EstimatorConfig:
    """How the sign of a pre-activation is guessed."""

    name: str = MISSING
    threshold: float = 0.0
    energy_loss: float | None = None
    density: float | None = None
    calibration: int = 2000
    moments: str = "calibration"
    refresh: str = "full"
    refresh_steps: int | None = None
    gate_in_training: bool | int = True
    placement: str = "all"

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

    epochs: int = MISSING
    batch_size: int = MISSING
    learning_rate: float = MISSING
    learning_rate_decay: float = MISSING
    momentum: float = MISSING
    momentum_growth: float = MISSING
    momentum_max: float = MISSING
    max_norm: float | None = MISSING
    l1: float = MISSING
    l2: float = MISSING
    dropout_input: float = MISSING
    dropout_hidden: float = MISSING
    weight_std: float = MISSING
    bias: float = MISSING
    source: str = MISSING
    verified: bool = MISSING
    seed: int = 0
    device: str = "auto"
    precision: str = "float32"
    patience: int | None = None
    max_minutes: float | None = None
    resume: str | None = None


@dataclass
class TrackingConfig:
    """Where runs are stored."""

    uri: str | None = None
    sweep: str | None = None
    register: str | None = None
    system_metrics: bool = True


@dataclass
class SweepConfig:
    """A study: what is searched, for what, by what and how far; read by ``-m`` and by tasks about studies."""

    name: str | None = None
    space: dict[str, str] = field(default_factory=dict)
    conditions: dict[str, str] = field(default_factory=dict)
    points: list[str] = field(default_factory=list)
    objectives: dict[str, str] = field(default_factory=dict)
    constraints: list[str] = field(default_factory=list)
    sampler: str | None = None
    seed: int = 0
    n_trials: int | None = None
    pruning: str | None = None
    workers: int = 1
    cluster: str = "local"
    slurm: dict[str, Any] = field(default_factory=dict)
    retries: int = 1
    trial_timeout: float | None = None
    storage: str | None = None
    preview: int | None = None
    paper: dict[str, float] = field(default_factory=dict)


@dataclass
class Config:
    """Everything a run needs to know."""

    task: str = "train"
    run: str | None = None
    pick: str = "knee"
    to: str | None = None
    seeds: int = 1
    test: bool = True
    data: DataConfig = field(default_factory=DataConfig)
    architecture: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    ranks: RanksConfig = field(default_factory=RanksConfig)
    estimator: EstimatorConfig = field(default_factory=EstimatorConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)

    @property
    def layer_sizes(self) -> list[int]:
        """Input, hidden and output sizes, e.g. ``[784, 1000, 600, 400, 10]``."""
        return [self.data.features, *self.architecture.hidden, self.data.classes]

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
    def gated_layers(self) -> int:
        """How many hidden layers have an estimator, from the first."""
        return self.estimator.gated_layers(self.ranks, len(self.architecture.hidden))
