"""``make mutants ROOM=estimator``: small mistakes put into one room, one at a time; do its tests notice each?

mutmut makes the mistakes and runs the tests, in ``.mutants/ROOM``, on a copy in which two things are written
otherwise. mutmut passes decorated functions over, and here those are the ones under ``no_grad``, the properties
and the context managers: the copy decorates them by an assignment after the function. And its zips are strict
unless told otherwise, for a ``strict=True`` less changes nothing where the lengths agree. Left out are what
stands at module level, files of numba kernels (their tests compare them with NumPy references), and tests that
take long: those that start ``python -m ccsweep`` (the ``user`` fixture), and those of more than four seconds.

A second run tries again what survived the first, what ran out of time and what has changed since.
"""

import ast
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SURVIVED, NO_TESTS, SKIPPED = 0, (5, 33), 34  # mutmut's exit codes of a mistake; None: not tried yet
LONG = 4.0
"""Seconds of a test that is not run for every mistake."""
NOTICED = (1, 3)  # a test failed, or pytest could not go on; any other code is a run out of time or a crash


def main(room: str, sample: int | None = None) -> None:
    """Try the mistakes of one room, or ``sample`` of them; print a score per module, list what survived.

    Args:
        room: a folder or a module of ccsweep, e.g. ``estimator``, ``training/schedules`` or ``network``.
        sample: how many mistakes to try, drawn at random but the same in each run; None: all.
    """
    source, tests = ROOT / "ccsweep" / room, [f"tests/{room}"]
    if not source.is_dir():
        source = source.with_suffix(".py")
        tests = [str(Path("tests", room).with_name(f"test_{source.name}"))]
    files = [path for path in sorted(source.rglob("*.py")) or [source] if "numba" not in path.read_text()]
    work = ROOT / ".mutants" / room.replace("/", "-")
    _copy(work, files, tests)
    os.chdir(work)
    (work / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)  # which test calls what: asked anew
    from mutmut import __main__ as mutmut

    mutmut.copy_src_dir()
    mutmut.copy_also_copy_files()
    mutmut.create_mutants(os.cpu_count() or 1)
    _choose(_results(work), sample)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(work / "mutants")}
    environment.setdefault("CCSWEEP_SHARED_DATA", str(ROOT.parent / "shared" / "data"))
    subprocess.run([Path(sys.executable).parent / "mutmut", "run"], env=environment, check=True)
    _report(work)


def _copy(work: Path, files: list[Path], tests: list[str]) -> None:
    """The tree as mutmut gets it; what has not changed keeps its time stamp, and its results."""
    work.mkdir(parents=True, exist_ok=True)
    for name in ("tests", "conf", "sweeps", "hydra_plugins", "benchmarks", "README.md"):
        if not (work / name).exists():
            (work / name).symlink_to(ROOT / name)
    settings = json.dumps([str(path.relative_to(ROOT)) for path in files])
    section = (
        f"[tool.mutmut]\nonly_mutate = {settings}\npytest_add_cli_args_test_selection = {json.dumps(tests)}"
    )
    project = (ROOT / "pyproject.toml").read_text()
    (work / "pyproject.toml").write_text(project.replace("[tool.mutmut]", section))
    shutil.rmtree(work / "mutants" / "tests", ignore_errors=True)
    for path in work.rglob("ccsweep/**/*.py"):  # what is no more
        if not (ROOT / path.relative_to(work / "mutants" if "mutants" in path.parts else work)).exists():
            path.unlink()
            path.with_name(path.name + ".meta").unlink(missing_ok=True)
    for path in (ROOT / "ccsweep").rglob("*.py"):
        target = work / path.relative_to(ROOT)
        text = prepared(path.read_text()) if path in files else path.read_text()
        if not target.exists() or target.read_text() != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)


def prepared(text: str) -> str:
    """A module whose functions are decorated by assignments, and whose zips need not be told to be strict."""
    lines = text.replace(", strict=True)", ")").splitlines()
    tree = ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for node in sorted(functions, key=lambda node: -node.lineno):  # from below, so that line numbers stay
        decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
        if not decorators or decorators in (["staticmethod"], ["classmethod"]):
            continue
        bare = f"set_{node.name}" if f"{node.name}.setter" in decorators else node.name
        value = bare
        for decorator in reversed(decorators):
            value = f"{decorator}({value})"
        lines.insert(node.end_lineno or 0, f"{' ' * node.col_offset}{node.name} = {value}")
        lines[node.lineno - 1] = lines[node.lineno - 1].replace(f"def {node.name}(", f"def {bare}(")
        del lines[node.decorator_list[0].lineno - 1 : node.lineno - 1]
    if ", strict=True)" in text:
        first = next(node.lineno for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
        lines.insert(first - 1, "from tests.mutants import strict_zip as zip")
    return "\n".join(lines) + "\n"


def strict_zip(*iterables: Iterable[Any], strict: bool = True) -> "zip[tuple[Any, ...]]":
    """What the copy calls ``zip``."""
    return zip(*iterables, strict=strict)


def _results(work: Path) -> dict[Path, dict[str, Any]]:
    """What mutmut keeps of each module that has mistakes."""
    metas = {path: json.loads(path.read_text()) for path in sorted((work / "mutants").rglob("*.py.meta"))}
    return {path: meta for path, meta in metas.items() if meta["exit_code_by_key"]}


def _choose(results: dict[Path, dict[str, Any]], sample: int | None) -> None:
    """Mark what is to be tried: what is new and what survived, of the sample if there is one."""
    names = [name for meta in results.values() for name in meta["exit_code_by_key"]]
    chosen = set(names if sample is None else random.Random(0).sample(names, min(sample, len(names))))
    for path, meta in results.items():
        for name, code in meta["exit_code_by_key"].items():
            kept = code if code in NOTICED else None
            meta["exit_code_by_key"][name] = kept if name in chosen else SKIPPED
        path.write_text(json.dumps(meta))


def _report(work: Path) -> None:
    """Print a score per module and write down what survived."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    survivors, everything = [], [0, 0, 0]
    for path, meta in _results(work).items():
        module = path.relative_to(work / "mutants").with_suffix("")
        tried = {name: code for name, code in meta["exit_code_by_key"].items() if code != SKIPPED}
        alive = [name for name, code in tried.items() if code in (SURVIVED, *NO_TESTS, None)]
        survivors += [
            f"# {'no test calls it' if tried[name] in NO_TESTS else 'survived'}\n"
            + get_diff_for_mutant(name, path=module)
            for name in alive
        ]
        scores = [len(tried) - len(alive), len(tried), sum(code in NOTICED for code in tried.values())]
        everything = [a + b for a, b in zip(everything, scores, strict=True)]
        _print_score(str(module), *scores)
    _print_score("killed in all", *everything)
    (work / "survivors.diff").write_text("\n".join(survivors))
    print(f"what survived: {(work / 'survivors.diff').relative_to(ROOT)}")


def _print_score(what: str, killed: int, tried: int, by_tests: int) -> None:
    late = f"  ({killed - by_tests} by the clock)" if killed > by_tests else ""
    print(f"{what:40} {killed:5} of {tried:5}  {100 * killed / max(tried, 1):5.1f} %{late}")


# From here on a pytest plugin, which mutmut's runs load with ``-p tests.mutants``.


def pytest_configure(config: Any) -> None:
    """Hypothesis draws the same examples for every mistake, and does not look for smaller ones."""
    if os.environ.get("MUTANT_UNDER_TEST") == "stats":
        del os.environ["MUTANT_UNDER_TEST"]  # mutmut knows in this process; others cannot count for it
    from hypothesis import Phase, settings

    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("mutants", deadline=None, database=None, derandomize=True, phases=phases)
    settings.load_profile("mutants")


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """No test that takes long; the quickest first, since the first failure ends a run."""
    try:
        seconds = json.loads(Path("mutmut-stats.json").read_text())["duration_by_test"]
    except FileNotFoundError:  # this run asks for it
        seconds = {}
    took = {item: seconds.get(item.nodeid, 0.0) for item in items}
    left_out = [item for item in items if "user" in item.fixturenames or took[item] > LONG]
    config.hook.pytest_deselected(items=left_out)
    items[:] = sorted((item for item in items if item not in left_out), key=took.__getitem__)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
