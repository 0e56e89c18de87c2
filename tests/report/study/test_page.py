"""The page is parsed as a browser would, and its figures are read from the data that it embeds."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from PIL import Image

from ccsweep.report.study import page
from ccsweep.study.folder import StudyFolder
from tests.report.study import studies


class Page(HTMLParser):
    """Text, tags that ask for something elsewhere, and unclosed tags."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text()
        self.asks: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.asks += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" not in self.open and "style" not in self.open:
            self.text += data + "\n"

    def figures(self) -> dict[str, list[dict[str, Any]]]:
        """Traces by the id of the figure."""
        found = {}
        for match in re.finditer(r'Plotly\.newPlot\(\s*"([\w-]+)",\s*', self.source):
            traces, _ = json.JSONDecoder().raw_decode(self.source, match.end())
            found[match[1]] = traces
        return found


def test_the_page_has_all_of_a_study(study: optuna.Study) -> None:
    folder = Path(study.user_attrs["folder"])
    files = page.write(study, StudyFolder(folder))
    assert [file.name for file in files] == ["report.html", "front.png"]
    assert not [p for p in folder.iterdir() if p.name.startswith(".report")]
    found = Page(files[0])
    assert found.open == []
    assert found.asks == []  # nothing from a network
    for text in ("15 of 20 trials done", "false_off<=0.2", "1234567890abcdef", "training.epochs=2"):
        assert text in found.text
    assert "python -m ccsweep task=export sweep.name=digits_pareto pick=trial:7" in found.text
    assert "worker died: killed, or its process exited" in found.text
    figures = found.figures()
    assert list(figures) == [
        "front-0",
        "growth-0",
        "parameter-importances-0",
        "slices-0",
        "contour-0",
        "parallel-coordinates-0",
        "workers-0",
    ]
    by_name = {trace.get("name"): trace for trace in figures["front-0"]}
    hover = by_name["knee"]["hovertext"][0]
    assert all(text in hover for text in ("trial 7", "ranks 39", "run 07abab", "/trials/7"))
    assert len(by_name["beaten"]["hovertext"]) == 7
    assert len(figures["slices-0"]) == 3  # parameters
    assert [trace["type"] for trace in figures["contour-0"]] == ["contour", "scatter"]
    assert "No epochs of these trials are at hand." in found.text
    assert len(by_name["breaks a constraint"]["hovertext"]) == 1
    assert {trace["name"] for trace in figures["parameter-importances-0"]} == set(studies.OBJECTIVES)
    image = np.asarray(Image.open(files[1]).convert("RGB"))
    assert image.shape[1] == 1200
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
        assert (image == colour).all(axis=-1).sum() > 20


def test_all_trials_are_rows_to_sort(study: optuna.Study) -> None:
    found = Page(page.write(study, StudyFolder(Path(study.user_attrs["folder"])))[0])
    inside = re.search(r'<script type="application/json" id="trials">(.*?)</script>', found.source)
    assert inside is not None
    data = json.loads(inside[1])
    assert data["heads"] == [
        *("trial", "state", "front", "validation_error", "measured_speedup_batch1", "estimator"),
        *("ranks.layers.0", "ranks", "seconds", "run", "folder", "cause", "link"),
    ]
    assert [row[0] for row in data["rows"]] == list(range(19))
    seventh = dict(zip(data["heads"], data["rows"][7], strict=True))
    assert (seventh["front"], seventh["validation_error"], seventh["ranks.layers.0"]) == ("yes", 2.0, 39)
    assert seventh["link"] == "trials/7/"


def test_intervals_epochs_and_what_lies_outside_the_view(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")
    for i in range(6):
        epochs = [[1, 9.0, 1.0], [2, 5.0 + i, 1.0]]
        studies.add(study, TrialState.COMPLETE, (1.0 + i, 1.0 + i**0.5), epochs=epochs)
    studies.add(study, TrialState.COMPLETE, (900.0, 1.0))
    ends = {"1": {"measured_speedup_batch1": [2.0, 1.5, 9.0]}}
    study.set_user_attr("alone", ends)
    found = Page(page.write(study, StudyFolder(tmp_path / "s"))[0])
    assert "Outside the view: trial 6 (900.00, 1.00)." in found.text
    figures = found.figures()
    interval = next(trace for trace in figures["front-0"] if trace.get("name") == "95 % interval")
    assert interval["error_x"]["array"] == [0.0, 7.0, 0.0, 0.0, 0.0, 0.0]
    assert interval["error_x"]["arrayminus"] == [0.0, 0.5, 0.0, 0.0, 0.0, 0.0]
    curves = figures["learning-curves-0"]
    assert [(trace["name"], trace["x"]) for trace in curves] == [("front", [1, 2])] * 6
    assert next(trace["y"] for trace in curves) == [9.0, 5.0]


def test_a_grid_is_drawn_by_trial(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "grid", objectives={})
    for error in (2.0, 1.5, 1.75):
        studies.add(study, TrialState.COMPLETE, (error,))
    files = page.write(study, StudyFolder(tmp_path / "grid"))
    assert [file.name for file in files] == ["report.html", "front.png"]
    found = Page(files[0])
    assert "Importances need 10 completed trials; there are 3." in found.text
    (beaten, best) = found.figures()["trials-0"]
    assert (best["name"], best["x"], len(beaten["x"])) == ("best", [1], 2)


def test_a_study_without_a_result_has_a_page_and_no_picture(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")
    studies.add(study, TrialState.FAIL, cause="no disk", kind="trial")
    (path,) = page.write(study, StudyFolder(tmp_path / "s"))
    found = Page(path)
    assert "No trial is complete, so there is nothing to compare." in found.text
    assert "no disk" in found.text


def test_three_objectives_have_a_panel_for_each_but_the_first(tmp_path: Path) -> None:
    objectives = {**studies.OBJECTIVES, "density": "minimize"}
    study = studies.create(tmp_path / "s", objectives=objectives)
    for error, speedup, density in ((1.0, 2.0, 0.3), (2.0, 3.0, 0.2), (3.0, 1.0, 0.9)):
        studies.add(study, TrialState.COMPLETE, (error, speedup, density))
    files = page.write(study, StudyFolder(tmp_path / "s"))
    assert len(files) == 2
    assert {"front-0", "front-1"} <= set(Page(files[0]).figures())


def test_parameters_that_only_some_trials_have(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s")
    for i in range(12):
        params = {"estimator": "svd", "training.l1": 10.0 ** -(3 + i % 4)} | (
            {"ranks.layers.0": 4 + i} if i % 2 else {}
        )
        studies.add(study, TrialState.COMPLETE, (1.0 + i, 1.0 + i % 5), params=params)
    path, _ = page.write(study, StudyFolder(tmp_path / "s"))
    (trace,) = Page(path).figures()["parallel-coordinates-0"]
    ranks = next(axis for axis in trace["dimensions"] if axis["label"] == "ranks.layers.0")
    assert ranks["ticktext"][0] == "–"


def test_passwords_and_markup_do_not_get_in(tmp_path: Path) -> None:
    study = studies.create(tmp_path / "s", base=["tracking.uri=postgresql://ann:s3cret@db/x"])
    study.set_user_attr("command", "python -m ccsweep -m sweep.storage=postgresql://ann:s3cret@db/x")
    study.set_user_attr("parent", "0123")
    study.set_user_attr("uri", "postgresql://ann:s3cret@db/x")
    overrides = ["tracking.uri=postgresql://ann:s3cret@db/x", "run='</script><b>'"]
    studies.add(study, TrialState.COMPLETE, (1.0, 2.0), overrides=overrides)
    cause = "cannot reach postgresql://ann:s3cret@db/x </table><script>alert(1)</script>"
    studies.add(study, TrialState.FAIL, cause=cause, overrides=overrides, kind="trial")
    path, _ = page.write(study, StudyFolder(tmp_path / "s"))
    found = Page(path)
    assert found.open == []
    assert "s3cret" not in found.source
    assert "<script>alert" not in found.source
