"""A plan as a table and as JSON."""

import pytest

from ccsweep.engine.plan import LayerPlan, Plan
from ccsweep.errors import UserError
from ccsweep.estimator.cost import DENSE, GATED, INPUT_SPARSE, TWO_SIDED


def layer(way: str, rank: int | None = 50) -> LayerPlan:
    times = {DENSE: 100.0, INPUT_SPARSE: 60.0, GATED: 40.0, TWO_SIDED: 30.0}
    return LayerPlan(1000, 500, rank, way, 0.2, 0.1, times)


PLAN = Plan(
    batch_size=256,
    threads=1,
    engine="auto",
    layers=(layer(TWO_SIDED), layer(INPUT_SPARSE, rank=None)),
    microseconds=50.0,
    dense_microseconds=200.0,
    disagreement=0.001,
    bytes=3_000_000,
    dense_bytes=2_000_000,
    notes=("a note",),
)

TABLE = """\
batch 256, 1 thread, engine auto

 layer      way            density   limit   measured us   gain   of the limit
 ─────────────────────────────────────────────────────────────────────────────
 1000x500   two-sided        0.020   11.1x          30.0   3.3x            30%
 1000x500   input-sparse     0.200    5.0x          60.0   1.7x            33%

network: 50.0 us, dense 200.0 us: 4.00x; predictions that differ: 0.10%; 3.0 MB, 1.50 times the dense weights
note: a note"""


def test_limits_count_operations():
    assert layer(DENSE).limit == 1
    assert layer(INPUT_SPARSE).limit == pytest.approx(5)
    # rank (0.2 * 1000 + 500) / (1000 * 500) = 0.07 for the estimator
    assert layer(GATED).limit == pytest.approx(1 / 0.17)
    assert layer(TWO_SIDED).limit == pytest.approx(1 / 0.09)


def test_nothing_left_to_compute_is_a_finite_limit():
    assert LayerPlan(1000, 500, None, INPUT_SPARSE, 0.0, 1.0, {}).limit == 500_000


def test_the_table():
    assert [line.rstrip() for line in str(PLAN).splitlines()] == TABLE.splitlines()


def test_stored_and_read_again(tmp_path):
    PLAN.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == PLAN


@pytest.mark.parametrize("content", [None, "{", "{}", "[]", '{"layers": [{}]}'])
def test_what_is_no_plan_is_refused(tmp_path, content):
    path = tmp_path / "plan.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError) as caught:
        Plan.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is no plan of the engine (")
    assert message.endswith("): compile again and save it")
    assert "\n" not in message
