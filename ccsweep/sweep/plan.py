"""What a ``-m`` command asks for, read and checked before anything is written or run."""

import logging
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ccsweep.config.check import check_sweep, plain
from ccsweep.config.explain import composing, explain
from ccsweep.config.keys import has_role, known_keys
from ccsweep.config.marks import Role
from ccsweep.config.places import named
from ccsweep.config.quoting import check_path, quoted
from ccsweep.config.schema import TASKS, Config, SweepConfig
from ccsweep.dotted import is_under
from ccsweep.errors import UserError
from ccsweep.study.dimension import written
from ccsweep.study.folder import StudyFolder
from ccsweep.study.identity import settings_of
from ccsweep.study.notes import Definition
from ccsweep.study.objectives import Constraint, check_keys, read_constraint
from ccsweep.study.space import Params, Space
from ccsweep.study.trials import Rules
from ccsweep.sweep.cluster import gpus, slurm
from ccsweep.sweep.compose import Composer, without_hydra
from ccsweep.tracking.mask import mask

SEED = "training.seed"
MOST_POINTS = 100_000  # of a grid
ELSEWHERE = ("tracking", "cluster")  # what says where trials run and are tracked, and not what they are

log = logging.getLogger(__name__)


@dataclass
class Plan:
    """A study as its command describes it; what workers get to know of it, too."""

    folder: StudyFolder
    sweep: SweepConfig
    space: Space
    sampler: str
    """tpe, nsgaii, gp, random or grid."""
    constraints: list[Constraint]
    plain: list[str]
    """Overrides of every trial; the trial's own come after them."""
    base: list[str]
    """Those of them that define a trial: where it is tracked does not."""
    points: list[Params]
    """Tried first; all there are, for a grid."""
    settings: dict[str, Any]
    """The resolved settings that all trials begin from, masked."""
    seeds: int
    uri: str | None
    """Where runs are tracked, unless the trained run that they evaluate says so."""
    patience: float = 0.0  # seconds to wait for that place at the end
    began: float = field(default_factory=time.time)
    """When the command was given."""
    workers: int = 1  # that may be at work at once
    command: list[str] = field(default_factory=lambda: ["python", "-m", "ccsweep", *sys.argv[1:]])

    @property
    def is_grid(self) -> bool:
        """Whether all points are known from the start."""
        return self.sampler == "grid"

    @property
    def objectives(self) -> dict[str, str]:
        """Directions by key of the report; of a grid without any, what it is kept by."""
        return self.definition.aims

    @property
    def rules(self) -> Rules:
        """What the study asks of a result."""
        return Rules(self.objectives, self.constraints, self.sweep.retries)

    @property
    def target(self) -> int:
        """How many trials are to be done in all."""
        if self.sweep.n_trials is not None:
            return self.sweep.n_trials
        return len(self.points)

    @property
    def run(self) -> str | None:
        """The trained run that all trials are about, as it was typed."""
        typed = [line.partition("=")[2].strip("'\"") for line in self.plain if line.startswith("run=")]
        return typed[-1] if typed else None

    @property
    def definition(self) -> Definition:
        """What makes it this study and no other."""
        return Definition(
            space={d.key: d.text for d in self.space.dimensions},
            conditions=dict(self.sweep.conditions),
            objectives=dict(self.sweep.objectives),
            constraints=list(self.sweep.constraints),
            sampler=self.sampler,
            pruning=self.sweep.pruning,
            base=[mask(line) for line in self.base],
            seeds=self.seeds,
        )

    @property
    def shown_command(self) -> str:
        """What was typed, for a file or a person."""
        return mask(shlex.join(self.command))

    @property
    def command_to_go_on(self) -> str:
        """What to type in order to go on with a study that was stopped."""
        named = self.sweep.name is not None or any(w.startswith("hydra.sweep.dir=") for w in self.command)
        folder = [] if named else [f"hydra.sweep.dir={self.folder.path}"]
        return mask(shlex.join([*self.command, *folder]))

    def overrides(self, own: Sequence[str]) -> list[str]:
        """All overrides of a trial with its ``own``."""
        return [*self.plain, *own, *self._test(), f"tracking.sweep={quoted(str(self.folder.path))}"]

    def single(self, own: Sequence[str]) -> str:
        """The command that runs a trial alone."""
        return mask(shlex.join(["python", "-m", "ccsweep", *self.plain, *own, *self._test()]))

    def _test(self) -> list[str]:
        # Test images are for the network that is picked; a study that looked at them would choose by them.
        given = any(line.startswith("test=") for line in self.plain)
        return ["test=false"] if self.sweep.objectives and not given else []


def make_plan(arguments: Sequence[str], master: DictConfig, loader: ConfigLoader) -> Plan:
    """Read a sweep's overrides and check all that can be checked without running it.

    Args:
        arguments: the command line's overrides, swept ones among them.
        master: the sweep's config without the swept ones.
        loader: Hydra's.

    Raises:
        UserError: one line naming the key, what was found and what was expected.
    """
    composer = Composer(loader, master)
    parser = OverridesParser.create(config_loader=loader)
    try:
        reader = _Reader(arguments, master, composer, parser)
        check_sweep(reader.sweep)
        folder = Path(master.hydra.sweep.dir).resolve()
        check_path("hydra.sweep.dir", str(folder))
        return reader.plan(StudyFolder(folder))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error


def unchecked(master: DictConfig) -> Config:
    """A sweep's settings as plain objects: a swept key may yet put right what is wrong in them."""
    return plain(without_hydra(master))


class _Reader:
    """Reads a command into a :class:`Plan`."""

    def __init__(
        self, arguments: Sequence[str], master: DictConfig, composer: Composer, parser: OverridesParser
    ) -> None:
        self.master, self.composer, self.parser = master, composer, parser
        self.config = config = unchecked(master)
        self.sweep = config.sweep
        self.overrides = parser.parse_overrides(list(arguments))

    def plan(self, folder: StudyFolder) -> Plan:
        sweep, config = self.sweep, self.config
        if not TASKS[config.task].trials:
            raise UserError(f"task={config.task}: is one run; leave -m out")
        if sweep.cluster == "slurm" and shutil.which("srun") is None:
            raise UserError("sweep.cluster=slurm: there is no srun here; expected a SLURM cluster, or local")
        slurm.check(sweep.slurm)
        sampler = sweep.sampler or ("tpe" if sweep.objectives else "grid")
        constraints = [read_constraint(text) for text in sweep.constraints]
        check_keys(sweep.objectives, constraints)
        swept, plain = self._parted()
        self._check_seeds(swept, plain, sampler)
        fixed = {o.get_key_element(): o.get_value_element_as_str() for o in plain if not o.is_delete()}
        fixed = {**self._in_effect(sweep.conditions), **fixed}
        given = {o.get_key_element() for o in plain}
        for key, text in sweep.space.items():
            self._refuse_shared(str(key), f"sweep.space: {key}={text}")
        texts = {str(k): v for k, v in {**sweep.space, **swept}.items() if k not in given}
        fixed = {k: v for k, v in fixed.items() if k not in texts}
        if config.seeds > 1:
            texts[SEED] = f"range(0,{config.seeds})"
        space = Space(texts, sweep.conditions, fixed, self.parser)
        self._check_size(space, sampler)
        points = self._points(space, sampler, folder)
        of_trials = [o for o in plain if not (o.is_hydra_override() or has_role(o.key_or_group, Role.STUDY))]
        plan = Plan(
            folder=folder,
            sweep=sweep,
            space=space,
            sampler=sampler,
            constraints=constraints,
            plain=[str(o.input_line) for o in of_trials],
            base=[str(o.input_line) for o in of_trials if not is_under(o.key_or_group, ELSEWHERE)],
            points=points,
            settings=settings_of(config),
            seeds=config.seeds,
            uri=config.tracking.uri,
            patience=60 * config.tracking.patience,
            workers=gpus.workers(sweep, config.training.device),
        )
        self._check_configs(plan)
        return plan

    def _parted(self) -> tuple[dict[str, str], list[Override]]:
        """Swept overrides as texts by key, and the plain ones; the last of a key counts."""
        swept: dict[str, str] = {}
        plain: dict[str, Override] = {}
        for override in self.overrides:
            key = override.get_key_element()
            if not override.is_sweep_override():
                plain[key] = override
                swept.pop(key, None)
                continue
            self._refuse_shared(key, str(override.input_line))
            swept[key] = override.get_value_string()
            plain.pop(key, None)
        return swept, list(plain.values())

    def _refuse_shared(self, key: str, shown: str) -> None:
        """Refuse to search what is the same for all trials of a study."""
        name = key.lstrip("+~").partition("@")[0]
        if name == "seeds":
            raise UserError(f"{shown}: expected one number; seeds=3 is seeds 0, 1 and 2")
        group = name.partition(".")[0]
        if has_role(name, Role.STUDY, Role.COMMAND, Role.SAME) or group in ("hydra", "sweeps", "cluster"):
            raise UserError(f"{shown}: is the same for all trials; expected one value")

    def _in_effect(self, conditions: Mapping[str, str]) -> dict[str, str]:
        """What the config says of keys that conditions ask for; a searched key's own value comes later."""
        values = {}
        for text in conditions.values():
            key = text.partition("=")[0].rstrip("! ").strip()
            choices = self.master.hydra.runtime.choices
            if key in choices:
                values[key] = str(choices[key])
            elif key in known_keys():
                value = OmegaConf.select(self.master, key)
                if value is None or isinstance(value, str | int | float):
                    values[key] = written(value)
        return values

    def _check_seeds(self, swept: dict[str, str], plain: list[Override], sampler: str) -> None:
        seeds, task = self.config.seeds, self.config.task
        if seeds == 1:
            return
        if task != "train":
            raise UserError(f"seeds={seeds}: repeats training, and task={task} trains nothing")
        if seeds < 1:
            raise UserError(f"seeds={seeds}: expected 1 or more")
        if sampler != "grid":
            raise UserError(f"seeds={seeds}: repeats the points of a grid; sweep.sampler={sampler} has none")
        lines = [f"{SEED}={text}" for key, text in {**self.sweep.space, **swept}.items() if key == SEED]
        lines += [str(o.input_line) for o in plain if o.get_key_element() == SEED]
        if lines:
            raise UserError(f"{lines[-1]}: seeds={seeds} gives 0 to {seeds - 1}; leave one of the two out")

    def _check_size(self, space: Space, sampler: str) -> None:
        if sampler == "grid":
            for d in space.dimensions:
                if d.listed is None:
                    raise UserError(
                        f"sweep.space: {d.key}={d.text}: a grid cannot list an interval; expected "
                        "choice(a,b) or range(1,10), or sweep.objectives and another sweep.sampler"
                    )
            return
        if not len(space):
            raise UserError(
                "sweep.space={}: names no parameter to search; expected for example "
                "training.l1: tag(log,interval(1e-6,1e-3))"
            )
        if not self.sweep.objectives:
            raise UserError(
                f"sweep.sampler={sampler}: has nothing to aim at; expected sweep.objectives, as "
                "{validation_error: minimize}"
            )
        if self.sweep.n_trials is None:
            raise UserError(f"sweep.n_trials=null: expected a number of trials with sweep.sampler={sampler}")

    def _points(self, space: Space, sampler: str, folder: StudyFolder) -> list[Params]:
        first = [space.read_point(line, self.parser) for line in self.sweep.points]
        if sampler != "grid":
            return first + self._warm_start(space, folder, first)
        if (name := getattr(self.sweep, "from")) is not None:
            raise UserError(f"sweep.from={name}: a grid has its points; expected sweep.objectives with it")
        if (count := space.count()) is not None and count > MOST_POINTS:
            raise UserError(
                f"sweep.space: has {count:,} points, and a grid runs them all; expected at most "
                f"{MOST_POINTS:,}, or sweep.objectives, which searches"
            )
        listed = list(space.points())
        return [*first, *(point for point in listed if point not in first)]

    def _warm_start(self, space: Space, folder: StudyFolder, first: list[Params]) -> list[Params]:
        """What ``sweep.from`` brings: the points of that study's front that lie in this space, too."""
        name = getattr(self.sweep, "from")
        if name is None:
            return []
        other = StudyFolder(named(name))
        if other.path.resolve() == folder.path:
            raise UserError(f"sweep.from={name}: is this study itself; expected another one")
        try:
            found = [point for point in space.points_of(other, self.parser) if point not in first]
        except UserError as error:
            raise UserError(f"sweep.from={name}: {str(error).partition(': ')[2]}") from None
        log.info("sweep.from=%s: %d points of its front are tried first", name, len(found))
        return found

    def _check_configs(self, plan: Plan) -> None:
        """Compose every point that is known, and for a sampler what the ends of its space give."""
        for point in plan.points:
            self._check(plan, plan.space.overrides(point), "")
        if plan.is_grid:
            return
        from optuna import create_study, logging
        from optuna.samplers import RandomSampler

        logging.set_verbosity(logging.WARNING)
        middle = plan.space.suggest(create_study(sampler=RandomSampler(seed=plan.sweep.seed)).ask())
        for point in [middle, *plan.space.ends(middle)]:
            own = plan.space.overrides(point)
            self._check(plan, own, f"sweep.space allows {' '.join(own)}: ")

    def _check(self, plan: Plan, own: list[str], before: str) -> None:
        """Compose a point with its ``own`` overrides; ``before`` is what an error begins with."""
        with composing([*plan.plain, *own]):
            try:
                self.composer.checked(plan.overrides(own))
            except UserError as error:
                raise UserError(f"{before}{error}") from None
