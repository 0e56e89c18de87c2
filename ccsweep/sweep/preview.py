"""``sweep.preview=5``: the points that would be tried first, as commands; nothing is written or run."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ccsweep.errors import UserError
from ccsweep.study import samplers
from ccsweep.study.storage import open_study
from ccsweep.study.trials import enqueue_points, sort
from ccsweep.sweep import recover
from ccsweep.sweep.plan import Plan

if TYPE_CHECKING:
    from optuna import Study


def show(plan: Plan) -> None:
    """Print the commands; a study that exists goes on where it is."""
    for line in commands(plan):
        print(line)


def commands(plan: Plan) -> list[str]:
    """The commands of the next ``sweep.preview`` trials: what is in the queue, then what is drawn."""
    recover.refuse_change(plan)
    study = _copy(plan)
    enqueue_points(study, plan.points)
    begun = len(study.get_trials(deepcopy=False))  # as the first worker will find them
    study.sampler = samplers.make(plan.sampler, plan.sweep.seed, begun, 0)
    lines = []
    for _ in range(plan.sweep.preview or 0):
        if plan.is_grid and not sort(study.get_trials(deepcopy=False)).waiting:
            break
        params = plan.space.suggest(study.ask())
        lines.append(plan.single(plan.space.overrides(params)))
    return lines


def _copy(plan: Plan) -> "Study":
    """The study in memory, as far as it is; a new one where there is none."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions: list[Any] = list(plan.objectives.values())
    study = optuna.create_study(directions=directions)
    with suppress(UserError):
        study.add_trials(open_study(plan.folder, plan.sweep.storage).get_trials())
    return study
