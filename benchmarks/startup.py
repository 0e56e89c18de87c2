"""How long a user waits: from a command to its answer, to its first word and to the first training step.

    python benchmarks/startup.py [data.dir=../shared/data] [repeats=5]

Answers: --help, --cfg job, shell completion. First word, and how long after the last one the prompt is back:
both with the output piped. First step: +experiment=mnist with its gate, once with a fresh MLflow store (a new
folder each time) and once with one that exists. Each command is a new process, timed from before it starts;
the commands take turns. Printed: median and spread (min to max).
Results: docs/results.md.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

# Runs ccsweep as `python -m ccsweep` does and leaves after the first training step.
FIRST_STEP = """
import os, sys, threading, time

def watch():
    while not hasattr(sys.modules.get("ccsweep.training.module"), "ConditionalModule"):
        time.sleep(0.005)
    module = sys.modules["ccsweep.training.module"].ConditionalModule
    step = module.training_step
    def first(self, *arguments, **options):
        step(self, *arguments, **options)
        os._exit(0)
    module.training_step = first

threading.Thread(target=watch, daemon=True).start()
from ccsweep.app import main
main()
"""


def timed(arguments: list[str], folder: str) -> float:
    """Seconds from starting a command to its end."""
    completing = os.environ | {"COMP_LINE": "ccsweep ranks=", "COMP_POINT": "14"}
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, env=completing, check=True, capture_output=True)
    return time.perf_counter() - start


def first_word(arguments: list[str], folder: str) -> float:
    """Seconds from starting a command, its output piped, to its first byte."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, *arguments], cwd=folder, stdout=-1, stderr=-3) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        took = time.perf_counter() - start
        process.kill()
    return took


def last_word(arguments: list[str], folder: str) -> float:
    """Seconds from a command's last byte to its end."""
    with subprocess.Popen([sys.executable, *arguments], cwd=folder, stdout=-1, stderr=-2) as process:
        assert process.stdout is not None
        said = time.perf_counter()
        while os.read(process.stdout.fileno(), 1 << 16):
            said = time.perf_counter()
        process.wait()
        return time.perf_counter() - said


def main() -> None:
    """Time all commands in turns and print a table."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    directory = os.path.abspath(given.get("data.dir", "../shared/data"))
    step = ["-c", FIRST_STEP, "+experiment=mnist", f"data.dir={directory}"]
    with tempfile.TemporaryDirectory() as shared:

        def fresh(arguments: list[str]) -> float:
            with tempfile.TemporaryDirectory() as folder:
                return timed(arguments, folder)

        commands: dict[str, Callable[[], float]] = {
            "--help": lambda: timed(["-m", "ccsweep", "--help"], shared),
            "--cfg job": lambda: timed(["-m", "ccsweep", "--cfg", "job"], shared),
            "completion": lambda: timed(["-m", "ccsweep", "-sc", "query=bash"], shared),
            "first word of a training": lambda: first_word(["-m", "ccsweep"], shared),
            "from its last word to its end": lambda: last_word(
                ["-m", "ccsweep", "training.epochs=1"], shared
            ),
            "first word of a sweep": lambda: first_word(["-m", "ccsweep", "-m", "seeds=2"], shared),
            "first step, fresh store": lambda: fresh(step),
            "first step, store exists": lambda: timed(step, shared),
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(1 + int(given.get("repeats", "5"))):
            for name, command in commands.items():
                took = command()
                if turn:  # the first turn fills the file cache
                    seconds[name].append(took)
    for name, took_all in seconds.items():
        spread = f"{min(took_all):.2f} to {max(took_all):.2f}"
        print(f"{name:35} {statistics.median(took_all):6.2f} s  ({spread}, {len(took_all)} times)")


if __name__ == "__main__":
    main()
