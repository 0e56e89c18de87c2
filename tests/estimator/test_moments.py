import torch

from ccsweep.estimator.moments import RunningMoments


def test_running_moments_are_unbiased_from_the_first_batch_on() -> None:
    running = RunningMoments(3)
    assert running.moments() is None
    x = torch.randn(50, 3) + 2
    for batches in (1, 4):
        for _ in range(batches):
            running.update(x)
        found = running.moments()
        torch.testing.assert_close(found.mean, x.mean(0))
        torch.testing.assert_close(found.second, x.T @ x / 50)
    assert found.samples == 250


def test_they_follow_inputs_that_change() -> None:
    running = RunningMoments(2)
    running.update(torch.zeros(10, 2))
    for _ in range(400):
        running.update(torch.ones(10, 2))
    torch.testing.assert_close(running.moments().mean, torch.ones(2), atol=1e-3, rtol=0)


def test_a_resumed_run_goes_on_with_them() -> None:
    running, other = RunningMoments(2), RunningMoments(2)
    running.update(torch.randn(10, 2))
    other.load_state_dict(running.state_dict())
    assert torch.equal(other.moments().second, running.moments().second)


def test_samples_are_counted_beyond_what_a_float_can() -> None:
    running = RunningMoments(2)
    running.samples.fill_(2**24)
    running.update(torch.ones(1, 2))
    assert running.moments().samples == 2**24 + 1
