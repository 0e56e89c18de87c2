import json
import shutil
import socket
import sqlite3

import pytest

from ccsweep.errors import UserError
from ccsweep.tracking.find import FoundRun, find_run, history, noted_run, run_id_of, store_of, write_run_file
from ccsweep.tracking.store import sqlite_path, sqlite_uri


def start_in(uri, folder):
    from ccsweep.tracking.run import Run

    return Run.start(
        uri, experiment="mnist", name="a run", params={}, tags={}, folder=folder, system_metrics=False
    )


def test_by_id_and_prefix(start, uri, tmp_path):
    run = start()
    found = FoundRun(tmp_path / "run", run.id)
    assert find_run(uri, run.id) == found
    assert find_run(uri, run.id[:6]) == found


def test_by_folder_without_a_store(start, tmp_path, monkeypatch):
    run = start()
    nowhere = "http://127.0.0.1:9"
    assert find_run(nowhere, str(tmp_path / "run")) == FoundRun(tmp_path / "run", run.id)
    monkeypatch.chdir(tmp_path)
    assert find_run(nowhere, "run") == FoundRun(tmp_path / "run", run.id)


def test_downloads_are_kept_in_the_users_cache(start, uri, tmp_path, monkeypatch):
    with start() as run:
        run.log_artifact(tmp_path / "run" / "run.json")
    shutil.rmtree(tmp_path / "run")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert find_run(uri, run.id).folder == tmp_path / "home" / ".cache" / "ccsweep" / "runs" / run.id


def test_the_store_of_a_folder_unless_its_password_is_hidden(start, uri, tmp_path):
    start()
    assert store_of(tmp_path / "run") == uri
    assert store_of(tmp_path) is None
    for text in ('{"uri": "postgresql://ann:***@db/runs"}', '{"run_id": "0"}', "half of a fi"):
        (tmp_path / "run.json").write_text(text)
        assert store_of(tmp_path) is None


def test_a_folder_that_was_moved_keeps_its_run_and_a_copy_has_none(start, uri, tmp_path):
    run = start()
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert (run_id_of(tmp_path / "copy"), noted_run(tmp_path / "copy")) == (None, run.id)
    assert find_run(uri, str(tmp_path / "copy")) == FoundRun(tmp_path / "copy", None)
    assert run_id_of(tmp_path / "run") == run.id
    (tmp_path / "run").rename(tmp_path / "moved")
    assert (run_id_of(tmp_path / "moved"), store_of(tmp_path / "moved")) == (run.id, uri)


def test_a_store_is_found_beside_its_runs_when_both_were_moved_or_copied(start, uri, tmp_path):
    project = tmp_path / "project"
    path = sqlite_path(uri)
    for folder in (project / "a" / "run", project / "store"):
        folder.mkdir(parents=True)
    write_run_file(project / "a" / "run", sqlite_uri(project / "store" / "mlflow.db"), "ab" * 16)
    shutil.copy(path, project / "store")
    shutil.copytree(project, tmp_path / "copy")
    assert store_of(tmp_path / "copy" / "a" / "run") == sqlite_uri(tmp_path / "copy" / "store" / "mlflow.db")
    project.rename(tmp_path / "moved")
    assert store_of(tmp_path / "moved" / "a" / "run") == sqlite_uri(
        tmp_path / "moved" / "store" / "mlflow.db"
    )
    (tmp_path / "moved" / "store" / "mlflow.db").unlink()
    assert store_of(tmp_path / "moved" / "a" / "run") is None  # and none is made where it was


def test_a_folder_that_was_never_tracked(tmp_path):
    assert find_run("http://127.0.0.1:9", str(tmp_path)) == FoundRun(tmp_path, None)


def test_artifacts_of_a_run_from_elsewhere(start, uri, tmp_path):
    run = start()
    (tmp_path / "best.ckpt").write_text("weights")
    run.log_artifact(tmp_path / "best.ckpt", "checkpoints")
    shutil.rmtree(tmp_path / "run")
    cache = tmp_path / "cache"
    with pytest.raises(
        UserError, match=f"run: {run.id} is still running on .*; its artifacts can be had when"
    ):
        find_run(uri, run.id, cache)
    run.end("FINISHED")
    found = find_run(uri, run.id, cache)
    assert found == FoundRun(cache / run.id, run.id)
    assert (found.folder / "checkpoints" / "best.ckpt").read_text() == "weights"
    assert [path.name for path in cache.iterdir()] == [run.id]
    assert find_run(uri, run.id, cache) == found


def test_a_run_is_found_by_id_when_its_folder_and_its_store_were_moved(tmp_path):
    uri = sqlite_uri(tmp_path / "old" / "outputs" / "mlflow.db")
    folder = tmp_path / "old" / "outputs" / "sweeps" / "s" / "trials" / "3"
    with start_in(uri, folder) as run:
        pass
    (tmp_path / "old").rename(tmp_path / "new")
    moved = sqlite_uri(tmp_path / "new" / "outputs" / "mlflow.db")
    expected = tmp_path / "new" / "outputs" / "sweeps" / "s" / "trials" / "3"
    assert find_run(moved, run.id) == FoundRun(expected, run.id)
    assert not (tmp_path / "old").exists()


def test_artifacts_go_along_when_a_store_is_moved_with_them(tmp_path):
    """Also those that are logged afterwards: nothing is made where the store was."""
    uri = sqlite_uri(tmp_path / "old" / "mlflow.db")
    with start_in(uri, tmp_path / "old" / "run") as run:
        run.log_artifact(tmp_path / "old" / "run" / "run.json", "first")
    (tmp_path / "old").rename(tmp_path / "new")
    moved = sqlite_uri(tmp_path / "new" / "mlflow.db")
    with start_in(moved, tmp_path / "new" / "again") as again:
        again.log_artifact(tmp_path / "new" / "again" / "run.json", "second")
    shutil.rmtree(tmp_path / "new" / "run")
    found = find_run(moved, run.id, tmp_path / "cache")
    assert (found.folder / "first" / "run.json").exists()
    assert len(list((tmp_path / "new" / "mlartifacts").rglob("run.json"))) == 2
    assert not (tmp_path / "old").exists()


def test_artifacts_that_cannot_be_reached_are_not_taken_for_an_empty_run(start, uri, tmp_path):
    with start() as run:
        run.log_artifact(tmp_path / "run" / "run.json")
    shutil.rmtree(tmp_path / "run")
    artifacts, cache = tmp_path / "store" / "mlartifacts", tmp_path / "cache"
    artifacts.rename(tmp_path / "away")
    with pytest.raises(UserError) as caught:
        find_run(uri, run.id, cache)
    assert str(caught.value) == (
        f"run: {run.id} has no artifacts that can be reached at {artifacts.as_uri()}/mnist/{run.id}/artifacts, and is "
        f"not on this machine; mount or mend that place, or go on with {tmp_path / 'run'} on {socket.gethostname()} "
        "(of a search, MLflow has the networks of the front only)"
    )
    (cache / run.id).mkdir()  # as it was left there once
    (tmp_path / "away").rename(artifacts)
    assert (find_run(uri, run.id, cache).folder / "run.json").exists()


def test_a_folder_of_the_same_name_on_another_machine(start, uri, tmp_path):
    run = start()
    run.log_artifact(tmp_path / "run" / "run.json")
    run.end("FINISHED")
    (tmp_path / "run" / "run.json").write_text(json.dumps({"run_id": "another"}))
    assert find_run(uri, run.id, tmp_path / "cache").folder == tmp_path / "cache" / run.id


def test_no_runs_yet(uri):
    with pytest.raises(UserError) as caught:
        find_run(uri, "0123456")
    assert str(caught.value) == (
        f"run: 0123456 is no run folder and no run id (6 or more characters) in {uri}; it has no "
        "runs yet; see all with python -m ccsweep.tracking.ui"
    )


@pytest.mark.parametrize("ref", ["fffffff", "outputs/typo", "ab", "f" * 32, "a'b"])
def test_unknown_names_the_last_runs(ref, start, uri, tmp_path):
    first, second = start(name="one"), start(name="two", folder=tmp_path / "2")
    with pytest.raises(UserError) as caught:
        find_run(uri, ref)
    assert str(caught.value) == (
        f"run: {ref} is no run folder and no run id (6 or more characters) in {uri}; the last runs "
        f"are {second.id[:8]} (two), {first.id[:8]} (one); see all with python -m ccsweep.tracking.ui"
    )


def test_several(start, uri, tmp_path):
    for number in "01":
        run = start(name=number, folder=tmp_path / number)
        with sqlite3.connect(sqlite_path(uri)) as store:
            for table in ("runs", "tags"):
                store.execute(
                    f"UPDATE {table} SET run_uuid = ? WHERE run_uuid = ?",
                    ("abcdef" + number * 26, run.id),
                )
    with pytest.raises(UserError) as caught:
        find_run(uri, "abcdef")
    assert str(caught.value) == (
        "run: abcdef fits several runs (abcdef11 (1), abcdef00 (0), ...); give more of the id"
    )


def test_deleted(start, uri, client):
    run = start()
    client.delete_run(run.id)
    with pytest.raises(UserError, match=f"run: {run.id} was deleted; bring it back with: mlflow ru"):
        find_run(uri, run.id)


def test_only_what_begins_with_the_prefix_in_order_of_steps(start, uri):
    run = start()
    for epoch in (2, 1, 10):
        run.log_metrics({"validation/error": 1 / epoch, "validation/loss": 3, "train/loss": 5}, step=epoch)
    found = history(uri, run.id, "validation/")
    assert found == run.history("validation/")
    assert found == {
        "validation/error": [(1, 1.0), (2, 0.5), (10, 0.1)],
        "validation/loss": [(1, 3.0), (2, 3.0), (10, 3.0)],
    }
    assert history(uri, run.id, "test/") == {}


def test_an_epoch_that_was_done_twice_counts_as_it_was_done_last(start):
    run = start()
    run.log_metrics({"error": 9}, step=1)
    run.log_metrics({"error": 8}, step=2)
    run.log_metrics({"error": 4}, step=2)
    assert run.history("error") == {"error": [(1, 9.0), (2, 4.0)]}
