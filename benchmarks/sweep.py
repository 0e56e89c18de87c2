"""What a sweep costs beyond its trials, and how busy its workers are.

    python -m benchmarks.sweep                 # 200 empty trials beside Hydra's own sweeper; about 2 minutes
    python -m benchmarks.sweep busy            # trials of 0.5 to 3 s on two workers; about a minute
    python -m benchmarks.sweep trials          # 10 real trials of digits_pareto by phase; under a minute
    python -m benchmarks.sweep trials mnist_posthoc 10 run=ID data.dir=... # of another study
    python -m benchmarks.sweep asking 5000     # CPU of one more trial of a long study, and its page; a minute

The first runs empty trials, and as many empty jobs of Hydra's basic sweeper, one process each, and prints
milliseconds a trial: from the first trial's start to the last one's end, over the number of trials, so that
starting a worker and drawing the page, once a sweep, are apart. Hydra's sweeper composes, checks and runs
a job in its own process, keeps no storage and knows of no other worker. The second prints the share of
the time from the first trial's start to the last one's end that the workers spent inside trials. The third
prints the median seconds of each phase of a real trial, wall and CPU, the first trial of the worker apart,
and the files that a trial leaves. The fourth fills a study with so many trials and prints the milliseconds of
CPU that the next one costs beyond its own work, and what the study's page takes and weighs.
"""

import json
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from ccsweep.config.places import root
from ccsweep.config.register import register

QUIET = ["hydra.sweep.dir=out", "hydra/job_logging=none", "hydra/hydra_logging=none"]
AIM = [
    "+sweep.objectives.validation_error=minimize",
    "+sweep.objectives.measured_speedup_batch1=maximize",
    "training.l1=interval(0,1)",
    "training.l2=interval(0,1)",
]
SEARCHED = {
    "training.l1": "tag(log,interval(1e-6,1e-3))",
    "training.l2": "tag(log,interval(1e-6,1e-3))",
    "training.dropout_hidden": "interval(0,0.5)",
    "ranks.layers.0": "int(tag(log,interval(2,48)))",
    "ranks.layers.1": "int(tag(log,interval(2,48)))",
    "estimator": "choice(svd,whitened)",
}
ASKED = 20
"""Trials by which the cost of one more is measured."""


def empty(cfg: DictConfig) -> dict[str, Any]:
    """A trial without work."""
    return {"validation_error": 1 + cfg.training.l1, "measured_speedup_batch1": 1 + cfg.training.l2}


def sleepy(cfg: DictConfig) -> dict[str, Any]:
    """A trial that takes 0.5 to 3 s and no core."""
    time.sleep(random.Random(cfg.training.l1).uniform(0.5, 3.0))
    return empty(cfg)


def sweep(task: Any, overrides: Sequence[str]) -> Any:
    """What ``-m`` does, in this process; returns what the sweeper does."""
    GlobalHydra.instance().clear()
    hydra = Hydra.create_main_hydra2("ccsweep", create_config_search_path(str(root() / "conf")))
    return hydra.multirun("config", task, [*overrides, *QUIET], with_log_configuration=False)


def span(trials: Sequence[Any]) -> float:
    """Seconds from the first trial's start to the last one's end."""
    first = min(trial.datetime_start for trial in trials)
    return float((max(trial.datetime_complete for trial in trials) - first).total_seconds())


def overhead(count: int) -> None:
    """Milliseconds a trial of each kind of sweep."""
    print(f"{count} trials without work, milliseconds a trial")
    for sampler in ("random", "tpe"):
        with _folder():
            began = time.perf_counter()
            with _silence():
                trials = sweep(empty, [*AIM, f"sweep.sampler={sampler}", f"sweep.n_trials={count}"])
            whole = time.perf_counter() - began
        own = sorted(1000 * (t.datetime_complete - t.datetime_start).total_seconds() for t in trials)
        print(
            f"  ccsweep, {sampler:7} {1000 * span(trials) / count:6.1f}   median "
            f"{statistics.median(own):.1f}, 95 % below {own[int(0.95 * count)]:.1f}; "
            f"the whole sweep {whole:.1f} s"
        )
    with _folder():
        began = time.perf_counter()
        with _silence():
            sweep(empty, ["hydra/sweeper=basic", f"training.l1=range(0,{count})"])
        print(f"  Hydra's basic    {1000 * (time.perf_counter() - began) / count:6.1f}   in one process")


def busy(count: int, workers: int) -> None:
    """The share of their time that workers spend inside trials of unequal length."""
    with _folder():
        aim = [*AIM, "sweep.sampler=random", f"sweep.n_trials={count}", f"sweep.workers={workers}"]
        with _silence():
            trials = sweep(sleepy, aim)
    asleep = sum(random.Random(t.params["training.l1"]).uniform(0.5, 3.0) for t in trials)
    seconds = span(trials)
    print(f"{count} trials of 0.5 to 3 s on {workers} workers: {seconds:.1f} s,")
    share = 100 * asleep / (workers * seconds)
    print(f"  workers busy {share:.1f} % of the time, the wait for the last one included")


def trials(study: str, count: int, overrides: Sequence[str]) -> None:
    """Seconds of each phase of a study's trials, with one worker."""
    from benchmarks.phases import FILE, phased

    with _folder() as place:
        began = time.perf_counter()
        own = [f"+sweeps={study}", f"sweep.n_trials={count}", "sweep.workers=1", *overrides]
        with _silence():
            done = sweep(phased, own)
        whole = time.perf_counter() - began
        folders = [Path(place, "out", t.user_attrs["folder"]) for t in done if "folder" in t.user_attrs]
        spent = [json.loads((folder / FILE).read_text()) for folder in folders if (folder / FILE).exists()]
        files = [[p for p in f.rglob("*") if p.is_file() and p.name != FILE] for f in folders]
        runs = [p for p in Path(place, "outputs").rglob("*") if p.is_file()]
        sizes = [sum(p.stat().st_size for p in each) for each in (*files, runs)]
        print(f"{len(spent)} trials of {study}, one worker: {whole:.1f} s in all; seconds a trial")
    print(f"  {'':18}{'first':>8}{'median':>8}{'CPU':>8}   of the others")
    names = sorted({name for each in spent for name in each}, key=lambda n: -spent[0].get(n, [0])[0])
    rows = {name: [each.get(name, [0.0, 0.0]) for each in spent] for name in names}
    rows["in all"] = [[sum(v[i] for v in each.values()) for i in (0, 1)] for each in spent]
    for name, (first, *others) in rows.items():
        wall, cpu = (statistics.median(each[i] for each in others) for i in (0, 1))
        print(f"  {name:18}{first[0]:8.2f}{wall:8.3f}{cpu:8.3f}")
    middle = statistics.median(sizes[:-1]) / 1e6
    print(f"  files of a trial: {statistics.median(map(len, files)):.0f}, {middle:.2f} MB")
    print(f"  MLflow's, all trials: {len(runs)}, {sizes[-1] / 1e6:.2f} MB")


def asking(count: int, sampler: str, url: str | None = None) -> None:
    """CPU of one more trial of a study of ``count``, by step, and of its page."""
    from ccsweep.report.study import page
    from ccsweep.study import samplers, storage
    from ccsweep.study.folder import StudyFolder
    from ccsweep.study.notes import Definition, StudyNotes, note_study
    from ccsweep.study.space import Space
    from ccsweep.study.trials import Completed, Rules, sort, tell
    from ccsweep.sweep.trial import _draw, _take

    aims = {"validation_error": "minimize", "measured_speedup_batch1": "maximize"}
    space = Space(SEARCHED, {}, {}, OverridesParser.create())
    bench: Any = SimpleNamespace(plan=SimpleNamespace(space=space), lock=nullcontext())
    draw, spent = random.Random(0), defaultdict[str, float](float)
    with _folder() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = StudyFolder(Path(place, "study"))
        folder.path.mkdir()
        bench.study = study = storage.create(folder, url, aims)
        note_study(study, StudyNotes(definition=Definition(objectives=aims), n_trials=count))
        study.add_trials([_done(space, number, draw) for number in range(count)])
        began = time.process_time()
        bench.study = study = storage.open_study(folder, url)
        opened = time.process_time() - began
        study.sampler = samplers.make(sampler, 0, count, 0)
        for number in range(ASKED):
            began = time.process_time()

            def took(step: str) -> None:
                nonlocal began
                spent[step] += time.process_time() - began
                began = time.process_time()

            sort(study.get_trials(deepcopy=False))
            took("how far it is")
            trial = study.ask()
            took("asked for")
            _draw(bench.plan, trial)
            took("drawn")
            _take(bench, trial, f"new {number}")
            took("compared")
            values = draw.random(), draw.random()
            tell(trial, Completed(dict(zip(aims, values, strict=True))), Rules(aims, [], 0))
            took("told")
        began = time.process_time()
        page.write(study, folder)
        drew, size = time.process_time() - began, folder.page.stat().st_size / 1e6
    milliseconds = {step: 1000 * seconds / ASKED for step, seconds in spent.items()}
    steps = ", ".join(f"{step} {each:.1f}" for step, each in milliseconds.items())
    print(f"{count} trials, {sampler}: {sum(milliseconds.values()):.1f} ms of CPU a trial ({steps})")
    print(f"  opened in {opened:.1f} s; page in {drew:.1f} s, {size:.1f} MB, 4.8 of them plotly's own")


def _done(space: Any, number: int, draw: random.Random) -> Any:
    """A trial as a search leaves it."""
    import optuna

    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number)).ask()
    params = space.suggest(trial)
    return optuna.create_trial(
        params=params,
        distributions=trial.distributions,
        values=[100 * draw.random(), 10 * draw.random()],
        user_attrs={
            "overrides": space.overrides(params),
            "hash": f"{number:032x}",
            "run_id": f"{draw.getrandbits(128):032x}",
            "folder": f"trials/{number}",
            "ranks": "16-12",
            "worker": "w1",
            "seconds": 2.5,
            "report": {f"figure{i}": draw.random() for i in range(25)},
        },
    )


class _folder(tempfile.TemporaryDirectory):  # noqa: N801
    """A working directory of its own."""

    def __enter__(self) -> str:
        self._before = os.getcwd()
        os.chdir(super().__enter__())
        return os.getcwd()

    def __exit__(self, *error: Any) -> None:
        os.chdir(self._before)
        super().__exit__(*error)


class _silence:  # noqa: N801
    """Nothing on standard output."""

    def __enter__(self) -> None:
        self._stdout = sys.stdout
        sys.stdout = open(os.devnull, "w")

    def __exit__(self, *error: Any) -> None:
        sys.stdout.close()
        sys.stdout = self._stdout


def main() -> None:
    """Run what the command line names."""
    here = str(Path(__file__).resolve().parent.parent)
    register()
    os.environ["PYTHONPATH"] = here  # workers import the tasks above
    if sys.argv[1:2] == ["busy"]:
        busy(count=int((sys.argv[2:] or ["60"])[0]), workers=2)
    elif sys.argv[1:2] == ["asking"]:
        asking(int((sys.argv[2:] or ["5000"])[0]), *(sys.argv[3:] or ["tpe"]))
    elif sys.argv[1:2] == ["trials"]:
        study, count, *overrides = sys.argv[2:] or ["digits_pareto", "10"]
        trials(study, int(count), overrides)
    else:
        overhead(count=int((sys.argv[1:] or ["200"])[0]))


if __name__ == "__main__":
    from benchmarks import sweep as module  # workers must not find the tasks in __main__

    module.main()
