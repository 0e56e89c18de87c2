import pytest

from ccsweep.figures import LAYERS, OBJECTIVES, RUN, TABLE, VALIDATION_ERROR, Figure, arrow, measured, of


def test_no_study_may_choose_by_the_test_images() -> None:
    assert OBJECTIVES == (
        "validation_error",
        "density",
        "false_off",
        "theoretical_speedup",
        "theoretical_speedup_inference",
        "measured_speedup_batch1",
        "measured_speedup_batch256",
        "engine_over_best_peer_batch1",
        "engine_over_best_peer_batch256",
        "best_epoch",
        "epochs",
        "seconds",
    )


def test_every_key_has_one_figure() -> None:
    known = {*RUN, *LAYERS}
    assert len({figure.key for figure in known}) == len(known)
    assert set(TABLE) <= set(RUN)
    for figure in known:
        assert of(figure.key) is figure
    assert measured(256) == of("measured_speedup_batch256")


@pytest.mark.parametrize(
    ("key", "better"),
    [
        ("validation_error", "minimize"),
        ("density", "minimize"),
        ("false_off", "minimize"),
        ("theoretical_speedup_inference", "maximize"),
        ("measured_speedup_batch256", "maximize"),
        ("seconds", "minimize"),
        ("best_epoch", None),
    ],
)
def test_which_way_is_better(key: str, better: str | None) -> None:
    assert of(key).better == better


@pytest.mark.parametrize(
    ("key", "value", "text", "cell"),
    [
        ("validation_error", 1.385, "1.39", "1.39"),
        ("validation_error", 12.0, "12.00", "12.00"),
        ("measured_speedup_batch1", 4.8, "4.80", "4.80x"),
        ("density", 0.12345, "0.123", "0.123"),
        ("density", 1.0, "1", "1"),
        ("seconds", 152.4, "152", "152"),
        ("seconds", 999.0, "999", "999"),
        ("seconds", 1000.0, "1,000", "1,000"),
        ("seconds", 12345.6, "12,346", "12,346"),
        ("of_another_version", -1234.5, "-1,234", "-1,234"),
    ],
)
def test_how_numbers_are_written(key: str, value: float, text: str, cell: str) -> None:
    assert of(key).text(value) == text
    assert of(key).cell(value) == cell


def test_words_of_a_figure() -> None:
    assert VALIDATION_ERROR.label == "validation error, %"
    assert VALIDATION_ERROR.column == "validation %"
    assert measured(1).label == "measured speed-up at batch 1, times"
    assert of("density").label == of("density").column == "density"
    assert of("of_another_version") == Figure("of_another_version", "of another version")
    assert of("density").cell(None) == "-"
    assert (arrow("minimize"), arrow("maximize")) == ("↓", "↑")
