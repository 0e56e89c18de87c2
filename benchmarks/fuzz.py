"""Command lines that nobody would type, made from the schema: each is refused in a line or two, or runs.

    python -m benchmarks.fuzz 2000 7      2,000 lines from seed 7

Nothing is trained: a line that passes all checks is done, and a study's ends before its first trial.
"""

import contextlib
import io
import logging
import os
import random
import re
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hydra.core.global_hydra import GlobalHydra

from ccsweep import app, tasks
from ccsweep.config.keys import schema
from ccsweep.config.marks import OneOf
from ccsweep.config.places import groups

SECONDS = 20
"""That a line may take to where its task begins; ten times as long for the whole of it."""

VALUES = [
    *(
        "0",
        "1",
        "-1",
        "2",
        "0.5",
        "1e-3",
        "3",
        "10",
        "64",
        "null",
        "true",
        "false",
        "''",
        "abc",
        "auto",
        "???",
    ),
    *(
        "nan",
        "inf",
        "-inf",
        "1e400",
        "1e39",
        "9223372036854775808",
        "-99999999999999999999999",
        "0x10",
        "1_000",
    ),
    *(
        "[]",
        "[1]",
        "[8,6]",
        "[8,8]",
        "[[8,8]]",
        "[null]",
        "[a]",
        "[1.5]",
        "[-1]",
        "[1e9]",
        "{}",
        "{a:1}",
        "{a:{b:c}}",
    ),
    *(
        "'it\\'s'",
        '"it\'s"',
        "it's",
        "a b",
        "a\\ b",
        "ä",
        "a<b",
        "a>b",
        "a|b",
        "a;b",
        "a&b",
        "#",
        "%",
        "$",
        "~",
        "*",
        "?",
    ),
    *(
        "${x}",
        "${oc.env:HOME}",
        "${training.l1}",
        "${",
        "}",
        "a\nb",
        "\t",
        "\x00",
        "../x",
        "/proc/x",
        "a/b",
        "..",
        ".",
    ),
    *(
        "[1,2",
        "(1",
        "1)",
        "'",
        '"',
        "\\",
        "\\'",
        ",",
        "1,",
        ",1",
        "=",
        "a=b",
        "a:b",
        "@",
        "x" * 300,
        "[" * 120,
        "(" * 60,
    ),
    *(
        "postgresql://u:pw@127.0.0.1:1/x",
        "sqlite:///x.db",
        "http://127.0.0.1:1",
        "file:x",
        "s3://x",
        "mysql://",
        "://",
    ),
]
SWEEPS = [
    *(
        "0,1",
        "a,b",
        "choice(0,1)",
        "choice(a,b)",
        'choice("it\'s",b)',
        "choice('a<b',b)",
        "choice()",
        "choice([1,2],[3,4])",
    ),
    *(
        "range(0,3)",
        "range(3)",
        "range(0,1,0.25)",
        "range(0,1,0)",
        "range(3,0)",
        "range(0,1e9)",
        "range(0,inf)",
        "range(a,b)",
    ),
    *(
        "interval(0,1)",
        "interval(1,0)",
        "interval(0,inf)",
        "interval(nan,1)",
        "interval(1,2,3)",
        "interval(0,1e400)",
    ),
    *(
        "tag(log,interval(1e-6,1e-3))",
        "tag(log,interval(0,1))",
        "int(interval(1,5))",
        "int(tag(log,interval(2,48)))",
    ),
    *(
        "tag(x,interval(0,1))",
        "tag(log,choice(1,2))",
        "glob(*)",
        "glob(1*)",
        "shuffle(range(0,3))",
        "sort(3,1,2)",
        "str(1,2)",
    ),
    *(
        "interval(0,99999999999999999999)",
        "choice(1,true)",
        "choice(null,1)",
        "int(interval(0.2,0.4))",
        "float(range(1,3))",
    ),
]
FLAGS = [
    "-m",
    "-m",
    "-m",
    "--cfg=job",
    "--cfg=hydra",
    "--cfg",
    "--info",
    "--info=all",
    "--resolve",
    "--help",
    "--hydra-help",
]
FLAGS += [
    "--package=x",
    "--config-name=x",
    "--config-dir=x",
    "--config-path=x",
    "--version",
    "--foo",
    "-x",
    "-sc",
    "--",
]
FLAGS += ["--experimental-rerun=x"]
GOOD = [
    "ranks=control",
    "ranks=control ranks.layers.0=4",
    "ranks.layers.a=1",
    "+experiment=mnist ranks=25-25-25",
    "task=evaluate run=0123abc ranks=control",
    "task=sweep_status sweep.name=x",
    "task=export sweep.name=x pick=error<=1.6 to=y",
    "training.resume=x",
    "-m +sweeps=digits_pareto",
    "-m +sweeps=digits_pareto ranks=control",
    "-m +sweeps=digits_pareto ranks=energy",
    "-m +sweeps=mnist_posthoc run=nope",
    "-m ranks=control,16-12 seeds=3",
    "-m training.l1=interval(0,1) +sweep.objectives.validation_error=minimize sweep.n_trials=3",
    "~training=1,2",
    "~training.l1",
    "+training.epochs=1",
    "sweep.space={training.l1:'choice(0,1)'}",
]


@dataclass
class Answer:
    """What the program made of a line."""

    line: list[str]
    status: int | None
    """None: it ended in a traceback, or not at all."""
    err: str
    seconds: float
    out: str = ""
    """What it printed."""

    @property
    def complaint(self) -> str | None:
        """What is wrong with the answer; None if nothing is."""
        if self.status is None:
            return self.err or "hung"
        said = [line for line in self.err.splitlines() if line.strip()]
        if self.status != 0 and (len(said) > 2 or not said):
            return f"{len(said)} lines: {self.err[:300]}"
        return None


def lines(count: int, seed: int) -> Iterator[list[str]]:
    """Command lines; the same for the same seed."""
    draw = random.Random(seed)
    for _ in range(count):
        if draw.random() < 0.25:
            words = shlex.split(draw.choice(GOOD))
            if draw.random() < 0.6:
                words.append(_override(draw))
        else:
            words = [_override(draw) for _ in range(draw.choice((1, 1, 1, 2, 3)))]
        if draw.random() < 0.25:
            words.insert(0, draw.choice(FLAGS))
        if draw.random() < 0.15:
            place = draw.randrange(len(words))
            words[place] = _damaged(words[place], draw)
        yield words


def _override(draw: random.Random) -> str:
    """A key of the schema, or nearly one, with a value that may be meant or not."""
    key = draw.choice(
        [*schema(), *groups(), "hydra.run.dir", "hydra.sweep.dir", "hydra.verbose", "hydra/launcher"]
    )
    known = schema().get(key)
    values = [*VALUES]
    if known is not None:
        values += [name for mark in known.marks if isinstance(mark, OneOf) for name in mark] * 3
        if known.is_open:
            key = f"{key}.{draw.choice((*schema(), 'a', 'validation_error'))}" if draw.random() < 0.7 else key
        elif draw.random() < 0.05 and not is_dataclass(known.type):
            key = f"{key}.{draw.choice(('0', '1', 'a', '-1', '99'))}"
    if key in groups():
        values = [*groups()[key] * 4, *VALUES[:20], "nope", "a/b"]
    if draw.random() < 0.05:
        key = _damaged(key, draw)
    before = draw.choice(("", "", "", "", "", "", "+", "++", "~"))
    if before == "~" and draw.random() < 0.5:
        return f"~{key}"
    return f"{before}{key}={draw.choice(SWEEPS if draw.random() < 0.25 else values)}"


def _damaged(word: str, draw: random.Random) -> str:
    place = draw.randrange(len(word) + 1)
    if draw.random() < 0.4:
        return word[:place] + word[place + 1 :]
    return word[:place] + draw.choice("=,.()[]{}'\"\\$@:~+-x0 \n") + word[place:]


def answer(line: list[str], whole: bool = False) -> Answer:
    """Run the program with ``line`` in this process: up to where its task begins, or the ``whole`` of it."""
    many = any(word in ("-m", "--multirun") for word in line)
    words = [*line, "sweep.preview=3"] if many and not whole else line
    out, err = io.StringIO(), io.StringIO()
    began = time.perf_counter()
    with (
        _left_as_it_was(),
        patch.object(sys, "argv", ["ccsweep", *words]),
        patch.object(tasks, "task", tasks.task if whole else _nothing),
    ):
        signal.signal(signal.SIGALRM, _hung)
        signal.alarm(10 * SECONDS if whole else SECONDS)
        status: int | None = 0
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    app.main()
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        except BaseException as error:
            status = None
            err.write(f"{type(error).__name__}: {error}")
        finally:
            signal.alarm(0)
    return Answer(line, status, err.getvalue(), time.perf_counter() - began, out.getvalue())


def _nothing(name: str) -> Any:
    """In place of a task: the line has passed all checks."""
    return lambda config, folder, overrides: {}


def _hung(number: int, frame: object) -> None:
    raise TimeoutError(f"no answer within {SECONDS} s, or ten times as long")


@contextlib.contextmanager
def _left_as_it_was() -> Iterator[None]:
    """Undo what a process that is the program's alone may keep: signals, loggers, its environment."""
    handlers = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    }
    environment, factory = dict(os.environ), logging.getLogRecordFactory()
    root, raising = logging.getLogger(), logging.raiseExceptions
    before, level = list(root.handlers), root.level
    streams = sys.stdout, sys.stderr
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().clear()
        sys.stdout, sys.stderr = streams
        logging.setLogRecordFactory(factory)
        logging.raiseExceptions = raising
        root.handlers, root.level = before, level
        os.environ.clear()
        os.environ.update(environment)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def main() -> None:
    """Ask for as many lines as the command says; shows what is wrong, and how long the answers took."""
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    answers = []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for line in lines(count, seed):
            answers.append(answer(line))
            if (complaint := answers[-1].complaint) is not None:
                print(f"{shlex.join(line)}\n    {complaint}", flush=True)
        left = [
            str(path) for path in Path().rglob("*") if path.is_file() and not re.match(r"outputs/", str(path))
        ]
    refused = sum(found.status == 2 for found in answers)
    wrong = sum(found.complaint is not None for found in answers)
    slowest = max(found.seconds for found in answers)
    print(f"{count} lines of seed {seed}: {refused} refused, {count - refused - wrong} fine, {wrong} wrong")
    print(f"slowest answer {slowest:.1f} s; files left beside outputs/: {', '.join(left) or 'none'}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
