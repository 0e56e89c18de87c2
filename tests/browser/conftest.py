"""A real browser on what ccsweep shows: Debian's Chromium, headless; skipped where there is none."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import User

STUDY = ["-m", "+sweeps=digits_pareto", "sweep.n_trials=8", "training.epochs=3", "sweep.name=front"]
GRID = ["-m", "ranks.layers=[16,12],[8,6],[4,3],null", "training.epochs=2", "sweep.name=grid"]
QUIET = ["tracking.system_metrics=false"]
WAIT = 120  # seconds, for a page of MLflow's on a busy machine

# MLflow opens its assistant over a third of the page when it is seen for the first time.
_NO_ASSISTANT = """
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
"""


@dataclass
class Browser:
    """A window of Chromium."""

    driver: Any

    def open(self, url: str, width: int = 1400, height: int = 900, dark: bool = False) -> None:
        """Open a page, as if for the first time."""
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(url)

    def __call__(self, script: str, *arguments: object) -> Any:
        """What a script in the page returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str, *arguments: object) -> Any:
        """What a script returns, once that is true."""
        deadline = time.monotonic() + WAIT
        while not (found := self(script, *arguments)):
            assert time.monotonic() < deadline, f"{script} is still {found!r} after {WAIT} s"
            time.sleep(0.2)
        return found

    def errors(self) -> list[str]:
        """What scripts of the page complained of since it was opened; what could not be fetched apart."""
        log = self.driver.get_log("browser")
        return [e["message"] for e in log if e["level"] == "SEVERE" and e["source"] != "network"]

    def shoot(self, path: Path) -> None:
        """A picture of the window, in few colours."""
        self.driver.save_screenshot(str(path))
        Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium here; on Debian: apt-get install chromium chromium-driver")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    window = Chrome(options=options, service=ChromeService(driver))
    window.set_page_load_timeout(WAIT)
    window.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _NO_ASSISTANT})
    try:
        yield Browser(window)
    finally:
        window.quit()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> User:
    """Someone who ran a study and a grid."""
    user = User(tmp_path_factory.mktemp("home"))
    for command in (STUDY, GRID):
        done = user.run(*command, *QUIET, timeout=900)
        assert done.returncode == 0, done.stderr
    return user


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go: ``CCSWEEP_SCREENSHOTS=docs make test-browser`` makes those of docs/compare.md."""
    return Path(os.environ.get("CCSWEEP_SCREENSHOTS") or tmp_path_factory.mktemp("shots"))


@pytest.fixture
def pages(home: User) -> Iterator[Callable[[str], dict[str, str]]]:
    """The addresses that ``python -m ccsweep.tracking.ui --study`` prints, with the server up."""
    started: list[subprocess.Popen[str]] = []

    def pages(study: str) -> dict[str, str]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = ["-m", "ccsweep.tracking.ui", "--study", f"outputs/sweeps/{study}", "--port", str(port)]
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=home.folder,
            env=home.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        deadline = time.monotonic() + WAIT
        while not _answers(port):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        return dict(line.split() for line in lines[1:])

    yield pages
    for process in started:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5).close()
    except OSError:
        return False
    return True
