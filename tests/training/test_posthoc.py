import os
from pathlib import Path

import pytest
import torch

from ccsweep.config.schema import RanksConfig
from ccsweep.estimator import ESTIMATORS
from ccsweep.estimator.layer import LayerData
from ccsweep.training import checkpoint, posthoc
from tests.training.conftest import Figures


@pytest.fixture
def trained(small_job):
    """A job that trained with whitened factors and running moments; its folder is the others' too."""
    posthoc._seen.clear()
    job = small_job(name="whitened", moments="running")
    job.fit(Figures())
    return job


def test_factors_fit_what_the_trained_network_gives_its_layers(trained, small_job) -> None:
    best = checkpoint.best(trained.folder)
    work = small_job(name="whitened-centred", ranks=RanksConfig([2, 2]))
    posthoc.refit(work, trained.config, best, "digest")
    x = work.calibration
    for old, new in zip(trained.module.network.hidden, work.module.network.hidden, strict=True):
        assert torch.equal(old.weight, new.weight)
        layer = LayerData(new.weight.T, new.bias, lambda x=x: x)
        expected = ESTIMATORS["whitened-centred"].factors(layer, 2)
        torch.testing.assert_close(new.u @ new.v, expected.u @ expected.v, rtol=0, atol=1e-4)
        torch.testing.assert_close(new.shift, expected.shift, rtol=0, atol=1e-4)
        x = old(x).detach()  # gated as it was saved


def test_a_warm_estimator_does_not_start_from_the_saved_factors(trained, small_job) -> None:
    warm, full = (small_job(refresh=refresh) for refresh in ("warm", "full"))
    for work in (warm, full):
        posthoc.refit(work, trained.config, checkpoint.best(trained.folder), "digest")
    for a, b in zip(warm.module.network.hidden, full.module.network.hidden, strict=True):
        assert torch.equal(a.u @ a.v, b.u @ b.v)


@pytest.mark.parametrize(("refresh", "decomposed"), [("full", 1), ("warm", 1), ("randomised", 0)])
def test_one_decomposition_serves_all_ranks(refresh: str, decomposed: int, trained, small_job) -> None:
    found = []
    for ranks in ([2, 2], [4, 3]):
        work = small_job(refresh=refresh, ranks=RanksConfig(ranks))
        posthoc.refit(work, trained.config, checkpoint.best(trained.folder), "digest")
        (layers,) = posthoc._seen.values()
        found.append([layer.spectra.get("svd") for layer in layers])
    assert [spectrum is not None for spectrum in found[0]] == [bool(decomposed)] * 2
    assert all(a is b for a, b in zip(*found, strict=True))


def test_a_control_gets_an_estimator(small_job) -> None:
    control = small_job(ranks=RanksConfig(), epochs=1)
    control.fit(Figures())
    work = small_job(density=0.3)
    posthoc.refit(work, control.config, checkpoint.best(control.folder), "digest")
    assert [layer.rank for layer in work.module.network.hidden] == [4, 3]
    gates = [trace.gate.float().mean() for trace in work.module.network.eval().trace(work.calibration)[1]]
    assert [float(share) for share in gates] == pytest.approx([0.3, 0.3], abs=0.01)


def test_what_was_seen_is_kept_for_the_same_checkpoint_and_images_only(trained, small_job) -> None:
    best = checkpoint.best(trained.folder)
    copy = Path(trained.folder / "copy.ckpt")
    copy.write_bytes(best.read_bytes())
    seen = []

    def look(path: Path, digest: str, **changed: object) -> bool:
        """Whether the layers are those of the look before."""
        posthoc.refit(small_job(**changed), trained.config, path, digest)
        assert len(posthoc._seen) == 1
        seen.extend(posthoc._seen.values())
        return len(seen) > 1 and seen[-1] is seen[-2]

    assert not look(best, "one")
    assert look(best, "one")
    assert look(best, "one", name="random")
    assert not look(best, "two")
    assert not look(copy, "two")
    assert not look(copy, "two", calibration=40)
    os.utime(copy, ns=(1, 1))
    assert not look(copy, "two", calibration=40)
