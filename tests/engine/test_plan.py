"""A plan as a table and as JSON."""

import json
from dataclasses import replace

import pytest

from ccsweep.engine.plan import LayerPlan, Plan, dense_bytes
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
    assert str(PLAN).endswith("note: a note")


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


def test_its_figures():
    two_sided, exact = PLAN.layers
    assert (two_sided.density, exact.density, layer(GATED).density, layer(DENSE).density) == (
        pytest.approx(0.02),
        0.2,
        0.1,
        1.0,
    )
    assert (two_sided.speedup, exact.speedup) == (pytest.approx(10 / 3), pytest.approx(5 / 3))
    both = LayerPlan(1000, 500, 50, TWO_SIDED, 0.2, 0.1, {DENSE: 60.0, TWO_SIDED: 20.0})
    assert both.speedup == 3
    assert PLAN.ways == (TWO_SIDED, INPUT_SPARSE)
    assert PLAN.speedup == 4.0


@pytest.mark.parametrize("missing", [DENSE, TWO_SIDED])
def test_a_way_that_was_not_timed_has_no_gain(missing):
    times = {DENSE: 100.0, TWO_SIDED: 30.0}
    del times[missing]
    untimed = LayerPlan(1000, 500, 50, TWO_SIDED, 0.2, 0.1, times)
    assert untimed.speedup is None
    row = next(
        line
        for line in str(replace(PLAN, layers=(untimed,), threads=4, notes=())).splitlines()
        if "1000x500" in line
    )
    time = "-" if missing == TWO_SIDED else "30.0"
    assert row.split() == ["1000x500", "two-sided", "0.020", "11.1x", time, "-", "-"]


def test_threads_are_counted_in_words():
    assert str(replace(PLAN, threads=4)).startswith("batch 256, 4 threads, engine auto\n")


def test_long_notes_stay_on_their_line():
    note = "a note that is longer than the table is wide, " * 5 + "and says more"
    assert str(replace(PLAN, notes=(note, "another"))).splitlines()[-2:] == [f"note: {note}", "note: another"]


def test_what_is_stored(tmp_path):
    PLAN.save(str(tmp_path / "plan.json"))
    text = (tmp_path / "plan.json").read_text(encoding="utf-8")
    content = json.loads(text)
    assert text == json.dumps(content, indent=2) + "\n"
    assert list(content) == [
        *("batch_size", "threads", "engine", "layers", "microseconds", "dense_microseconds"),
        *("disagreement", "bytes", "dense_bytes", "notes", "speedup"),
    ]
    assert (content["speedup"], content["notes"], content["disagreement"]) == (4.0, ["a note"], 0.001)
    stored = content["layers"][0]
    assert (stored["way"], stored["rank"], stored["inputs"], stored["units"]) == (TWO_SIDED, 50, 1000, 500)
    assert stored["density"] == pytest.approx(0.02)
    assert stored["limit"] == pytest.approx(1 / 0.09)
    assert stored["speedup"] == pytest.approx(10 / 3)


def test_the_error_names_what_is_wrong_and_keeps_its_cause(tmp_path):
    PLAN.save(tmp_path / "plan.json")
    content = json.loads((tmp_path / "plan.json").read_text())
    del content["bytes"]
    (tmp_path / "plan.json").write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        Plan.load(tmp_path / "plan.json")
    assert str(caught.value) == (
        f"{tmp_path}/plan.json is no plan of the engine (KeyError('bytes')): compile again and save it"
    )
    assert isinstance(caught.value.__cause__, KeyError)


def test_the_bytes_of_dense_layers():
    assert dense_bytes([(10, 3), (3, 2)]) == 4 * (33 + 8)
    assert dense_bytes([]) == 0
