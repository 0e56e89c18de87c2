"""docs/journeys.md from an empty folder, with a wheel that is built and installed for it.

python -m benchmarks.journeys          about as many minutes as the page says; stops at what fails
python -m benchmarks.journeys 2 3      some of them; all but the third use what the first one left
"""

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def journeys() -> dict[str, str]:
    """The commands of each journey of the page, by its heading."""
    parts = (ROOT / "docs" / "journeys.md").read_text().split("\n## ")[1:]
    blocks = re.compile(r"```sh\n(.*?)```", flags=re.DOTALL)
    return {part.partition("\n")[0]: "\n".join(blocks.findall(part)) for part in parts}


def built(folder: Path) -> Path:
    """The wheel of this checkout, built in ``folder``."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(ROOT)], check=True, capture_output=True)
    (wheel,) = folder.glob("ccsweep-*.whl")
    return wheel


def installed(wheel: Path, folder: Path) -> Path:
    """The ``python`` of a new environment with the wheel; what it depends on is this environment's."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


def environment(python: Path) -> dict[str, str]:
    """Variables for a shell whose ``python`` is this one."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CCSWEEP", "MLFLOW", "PYTHON"))}
    # The scripts of what it depends on, such as uvicorn, are beside this python.
    places = (python.parent, Path(sys.executable).parent, os.environ["PATH"])
    return kept | {"PATH": os.pathsep.join(map(str, places))}


def main(chosen: list[str]) -> None:
    """Run the journeys whose numbers are given, or all."""
    with tempfile.TemporaryDirectory(prefix="journeys-") as scratch:
        python = installed(built(Path(scratch)), Path(scratch) / "environment")
        home = Path(scratch) / "home"
        home.mkdir()
        took = {}
        for heading, commands in journeys().items():
            if chosen and heading[0] not in chosen:
                continue
            print(f"\n== {heading}", flush=True)
            began = time.monotonic()
            shell = ["bash", "-euo", "pipefail", "-c", commands]
            subprocess.run(shell, cwd=home, env=environment(python), check=True)
            took[heading] = time.monotonic() - began
        for heading, seconds in took.items():
            print(f"{seconds / 60:6.1f} min  {heading}")


if __name__ == "__main__":
    main(sys.argv[1:])
