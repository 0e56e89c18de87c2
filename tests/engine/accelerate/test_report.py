"""What a report says."""

from ccsweep.engine.accelerate.report import Report
from ccsweep.engine.accelerate.tracing.chains import Left

LEFT = (Left("a", "odd"), Left("b", "even"), *(Left(f"c{k}", "odd") for k in range(4)))


def test_with_gates():
    report = Report(("in the engine: it",), LEFT, "the sign", 0.02, 0.0125, 0.01875, 0.95, 1080, ("see",))
    assert str(report).splitlines() == [
        "in the engine: it",
        "left as it was: a, c0, c1 and 2 more: odd",
        "left as it was: b: even",
        "kept: the sign",
        "changed answers: 1.25% of 1,080 held out, at most 1.875% of all with 95% confidence",
        "note: see",
    ]
    assert not report.exact
    assert report.disagreement == 0.0125


def test_without_gates():
    report = Report(("in the engine: it",), (), "the sign", 0.02, 0.0, 0.0, 0.95, 80)
    assert str(report).splitlines()[1:] == [
        "kept: the sign",
        "changed answers: 0.00% of 80 held out; only zeros are left out, which changes nothing but rounding",
    ]
