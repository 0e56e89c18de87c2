from ccsweep.tracking.history import history


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
