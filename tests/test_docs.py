"""The pages: an example that runs, figures that are those of the code, and a site without a broken link."""

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "accelerate.md").read_text()


@pytest.mark.slow
def test_the_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    printed = capsys.readouterr().out
    assert printed.startswith("in the engine: 0 to 5: 64-512-256-10, ranks ")
    assert "kept: the largest along axis 1\nchanged answers: " in printed
    assert (tmp_path / "fast.pt").is_file()


def test_the_figures_of_the_page_are_those_of_the_code():
    from ccsweep.engine.accelerate import call, keep
    from ccsweep.engine.accelerate.report import CONFIDENCE, samples_needed

    inputs = -(-samples_needed(0.001) // (1 - call.FITTING - call.CHOOSING))
    assert f"takes {inputs:,.0f} calibration inputs" in " ".join(PAGE.split())
    assert f"with {CONFIDENCE:.0%}".replace("%", " %") in PAGE
    assert f"at most {keep.VALUES:.0%}".replace("%", " %") in PAGE
    assert f"within {keep.LOOSE:.0%}".replace("%", " %") in PAGE
    assert (keep.SURER, keep.STEADY, call.FITTING, call.CHOOSING) == (3, 1.5, 1 / 4, 1 / 4)


def test_the_site_is_whole(tmp_path):
    """Every page is in it, no link leads nowhere, and every name of the Python API has its docstring."""
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert {page.parent.name for page in site.glob("*/index.html")} >= pages - {"index"}
    shown = re.findall(
        r'<a[^>]+href="([^"#]+)#?[^"]*"[^>]*class="md-nav__link', (site / "index.html").read_text()
    )
    assert {address.strip("./") for address in shown} >= pages - {"index"}, "a page that the menu lacks"
    api = (site / "api" / "index.html").read_text()
    for name in ("train", "load", "Run", "study", "Study"):
        assert f'id="ccsweep.api.{name}"' in api


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.stem
)
def test_what_a_page_points_to_is_there(page):
    for place in re.findall(r"\]\(([^)#:]+)[^):]*\)", page.read_text()):
        assert (page.parent / place).is_file(), place
