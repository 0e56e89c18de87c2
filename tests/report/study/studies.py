"""Real Optuna studies on a journal file, as a sweeper leaves them; their trials took no time to make."""

import warnings
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

OBJECTIVES = {"validation_error": "minimize", "measured_speedup_batch1": "maximize"}
BEGAN = datetime(2026, 11, 23, 10, 0, 0)
SPACE = {
    "estimator": CategoricalDistribution(["svd", "whitened"]),
    "ranks.layers.0": IntDistribution(4, 64),
    "training.l1": FloatDistribution(1e-6, 1e-3, log=True),
}

# (error, speed-up); what is not beaten by another: 4 (1.4), 1 (1.6), 7 (2.0), 9 (3.0)
VALUES = [
    (2.5, 1.5),
    (1.6, 3.0),
    (3.5, 3.5),
    (1.9, 2.0),
    (1.4, 1.2),
    (4.0, 4.0),
    (2.2, 4.1),
    (2.0, 4.2),
    (3.2, 4.4),
    (3.0, 4.5),
    (1.3, 5.0),  # breaks the constraint
    (5.0, 1.0),
]


def create(folder: Path, objectives: dict[str, str] | None = None, **definition: Any) -> optuna.Study:
    """An empty study in ``folder`` with the attributes that the sweeper gives it."""
    objectives = OBJECTIVES if objectives is None else objectives
    folder.mkdir(parents=True, exist_ok=True)
    named = objectives or {"validation_error": "minimize"}
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(folder / "study.journal"))),
        study_name=folder.name,
        directions=list(named.values()),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(named))
    whole: dict[str, Any] = {
        "space": {"estimator": "choice(svd,whitened)", "ranks.layers.0": "interval(4,64)"},
        "conditions": {},
        "objectives": objectives,
        "constraints": ["false_off<=0.2"],
        "sampler": "tpe" if objectives else "grid",
        "pruning": None,
        "base": ["training.epochs=2"],
        "seeds": 1,
    }
    attrs = {
        "definition": whole | definition,
        "commit": "1234567890abcdef",
        "folder": str(folder),
        "uri": "postgresql://ann:***@db/runs",
        "command": "python -m ccsweep -m +sweeps=digits_pareto",
        "host": "here",
        "n_trials": 20,
    }
    for key, value in attrs.items():
        study.set_user_attr(key, value)
    return study


def add(
    study: optuna.Study,
    state: TrialState,
    values: Sequence[float] | None = None,
    at: float = 0,
    seconds: float = 60,
    worker: int = 0,
    false_off: float = 0.1,
    params: dict[str, Any] | None = None,
    **attrs: Any,
) -> None:
    """Add a trial that began ``at`` seconds after the study."""
    number = len(study.get_trials(deepcopy=False))
    if params is None:
        params = {
            "estimator": ("svd", "whitened")[number % 2],
            "ranks.layers.0": 4 + 5 * number % 60,
            "training.l1": 10 ** (-6 + number % 7 / 3),
        }
    began = BEGAN + timedelta(seconds=at)
    objectives = list(study.user_attrs["definition"]["objectives"] or ["validation_error"])
    report = dict(zip(objectives, values, strict=True)) if values else {}
    known: dict[str, Any] = {
        "overrides": [f"{key}={value}" for key, value in params.items()],
        "hash": f"{number:064x}",
        "folder": f"{study.user_attrs['folder']}/trials/{number}",
        "run_id": f"{number:02d}" + "ab" * 15,
        "ranks": "-".join(str(value) for key, value in params.items() if "ranks" in key) or "16-12",
        "worker": f"here-{worker}",
        "seconds": seconds,
    }
    if values:
        known["report"] = report | {"false_off": false_off, "density": 0.3, "seed": 0, "data": "digits"}
    if state == TrialState.RUNNING:
        known = {key: known[key] for key in ("overrides", "folder", "ranks", "worker")}
    trial = FrozenTrial(
        number=number,
        trial_id=number,
        state=state,
        value=None,
        values=None if values is None else list(values),
        datetime_start=None if state == TrialState.WAITING else began,
        datetime_complete=began + timedelta(seconds=seconds) if state.is_finished() else None,
        params=params,
        distributions={key: SPACE[key] for key in params},
        user_attrs=known | attrs,
        system_attrs={},
        intermediate_values={},
    )
    if values:
        trial.set_constraint("false_off<=0.2", false_off - 0.2)
    study.add_trial(trial)


def typical(folder: Path) -> optuna.Study:
    """12 complete, 1 reused, 1 pruned, 2 failed, 1 failed and tried again, 1 stopped and 1 running."""
    study = create(folder)
    for i, values in enumerate(VALUES):
        off = 0.3 if i == 10 else 0.1
        add(study, TrialState.COMPLETE, values, at=i // 2 * 60, worker=i % 2, false_off=off)
    add(study, TrialState.COMPLETE, VALUES[4], at=360, seconds=0, reuses=4)
    add(study, TrialState.PRUNED, at=361, seconds=20, cause="beaten by 2 trials at epoch 3")
    add(study, TrialState.FAIL, at=360, seconds=30, worker=1, kind="trial", cause="validation_error is nan")
    cause = "worker died: killed, or its process exited"
    add(study, TrialState.FAIL, at=400, seconds=10, worker=1, kind="machine", attempt=0, cause=cause)
    add(study, TrialState.FAIL, at=420, seconds=10, kind="machine", attempt=1, retry_of=15, cause=cause)
    add(study, TrialState.FAIL, at=440, seconds=9, kind="stopped", cause="stopped")
    add(study, TrialState.RUNNING, at=450, worker=1)
    return study
