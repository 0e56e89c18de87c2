"""What counts as the same answer, for outputs of every kind."""

import re

import pytest
import torch

from ccsweep.engine.accelerate.keep import criterion
from ccsweep.errors import UserError


def rule(keep, *outputs, features=(24,)):
    return criterion(keep, outputs, [len(first(output)) for output in outputs], features)


def first(output):
    return output if isinstance(output, torch.Tensor) else next(iter(output.values()))


SCORES = torch.tensor([[3.0, 1.0, 0.0], [0.0, 0.5, 0.4], [1.0, 2.0, 5.0], [-1.0, -2.0, -3.0]])


def moved(by: float) -> torch.Tensor:
    """The second sample's last score comes nearer to its largest."""
    other = SCORES.clone()
    other[1, 2] += by
    return other


def test_the_largest_output_and_how_near_it_was_to_change():
    kept = rule("argmax", SCORES)
    assert kept.text == "the largest along axis 1"
    assert kept.changed(SCORES, moved(0.05), 1.0).tolist() == [False] * 4
    assert kept.changed(SCORES, moved(0.05), 3.0).tolist() == [False, True, False, False]
    assert kept.changed(SCORES, moved(0.15), 1.0).tolist() == [False, True, False, False]
    assert (kept.safety, rule("values", SCORES).safety, rule(None, SCORES).safety) == (3.0, 1.5, 3.0)


def test_the_axis_of_the_classes_is_found_or_named():
    scores = torch.randn(6, 4, 7)
    other = scores.clone()
    other[2, :, 5] = other[2, :, 5].flip(0)
    expected = [False, False, True, False, False, False]
    assert rule(("argmax", 1), scores).changed(scores, other, 1.0).tolist() == expected
    likely = scores.softmax(1)
    assert rule("argmax", likely).text == "the largest along axis 1"
    message = (
        "keep='argmax': the classes of outputs (samples, 4, 7) may be along axis 1 or 2: say which, as in "
        "keep=('argmax', 2)"
    )
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        rule("argmax", scores)
    with pytest.raises(
        UserError, match=r"^keep=\('argmax', 3\): outputs \(samples, 4, 7\) have axes 1 to 2$"
    ):
        rule(("argmax", 3), scores)


def test_one_output_has_no_classes():
    for one in (torch.randn(5, 1), torch.randn(5)):
        with pytest.raises(UserError, match=r"hold no classes to choose from; use 'sign' or 'values'$"):
            rule("argmax", one)


def test_sides_of_a_threshold():
    likely = torch.tensor([[0.2], [0.45], [0.9]])
    other = torch.tensor([[0.3], [0.48], [0.9]])
    kept = rule(("sign", 0.5), likely)
    assert kept.text == "which side of 0.5 each output is on"
    assert kept.changed(likely, other, 1.0).tolist() == [False, False, False]
    assert kept.changed(likely, other, 2.0).tolist() == [False, True, False]
    assert rule("sign", likely - 0.5).changed(likely - 0.5, 0.5 - likely, 1.0).tolist() == [True] * 3


def test_values_against_the_spread_of_each_output():
    values = torch.tensor([[0.0, 0.0], [100.0, 1.0], [200.0, 2.0]])
    kept = rule(("values", 0.1), values)
    other = values + torch.tensor([[0.0, 0.0], [8.0, 0.0], [0.0, 0.0]])
    assert kept.changed(values, other, 1.0).tolist() == [False, False, False]
    assert kept.changed(values, other, 1.1).tolist() == [False, True, False]
    # The second output's own spread is 0.8; what counts is at least a tenth of that of both, 5.8.
    other = values + torch.tensor([[0.0, 0.57], [0.0, 0.59], [0.0, 0.0]])
    assert kept.changed(values, other, 1.0).tolist() == [False, True, False]
    constant = torch.full((3, 1), 7.0)
    assert rule("values", constant).changed(constant, constant + 0.2, 1.0).tolist() == [True] * 3
    assert (
        rule("values", constant).changed(constant, torch.full((3, 1), torch.nan), 1.0).tolist() == [True] * 3
    )


def test_by_default_classes_are_kept_where_there_may_be_any():
    kept = rule(None, SCORES)
    assert kept.text == (
        "the largest of outputs (samples, 3), and values within 5.00% of their spread (by default; keep='argmax' keeps "
        "the largest alone, keep='values' holds the values closer)"
    )
    far = SCORES + torch.tensor([0.5, 0.0, 0.0])
    assert kept.changed(SCORES, moved(0.15), 1.0)[1]
    assert kept.changed(SCORES, far, 1.0)[0]  # the same class, but another value
    assert not rule("argmax", SCORES).changed(SCORES, far, 1.0)[0]
    for outputs in (torch.randn(9, 1), torch.randn(9), torch.randn(9, 24), torch.randn(9, 4, 7)):
        assert rule(None, outputs).text == "values within 2.00% of their spread (by default)"


def test_several_outputs_each_by_its_own_rule():
    output = {"logits": SCORES, "value": torch.randn(4, 1), "chosen": SCORES.argmax(1)}
    kept = rule("argmax", output)
    assert kept.text == (
        "['logits']: the largest along axis 1; ['value']: values within 2.00% of their spread; ['chosen']: the same"
    )
    assert not kept.changed(output, output, 1.0).any()
    for name, other in (
        ("logits", moved(0.15)),
        ("value", output["value"] + 5),
        ("chosen", SCORES.argmin(1)),
    ):
        assert kept.changed(output, output | {name: other}, 1.0).any(), name


def test_a_function_says_it():
    def close(a, b):
        return (a - b).abs().amax(1) < 0.1

    kept = rule(close, SCORES)
    assert kept.text == "what close says"
    assert kept.changed(SCORES, moved(0.15), 1.0).tolist() == [False, True, False, False]
    message = r"^keep: the function gives torch.float32 \(4, 3\) for 4 samples: expected a bool for each$"
    with pytest.raises(UserError, match=message):
        rule(lambda a, b: a - b, SCORES).changed(SCORES, SCORES, 1.0)
    with pytest.raises(
        UserError, match=r"^keep: the function fails \(ZeroDivisionError: division by zero\)$"
    ):
        rule(lambda a, b: 1 / 0, SCORES).changed(SCORES, SCORES, 1.0)


def test_what_is_refused():
    with pytest.raises(
        UserError, match=r"^keep='argmx': expected 'argmax', 'sign', 'values', one of them with"
    ):
        rule("argmx", SCORES)
    message = r"^the output has shape \(\) for 4 samples: expected a sample for each; only max_disagreement=0 can be kept$"
    with pytest.raises(UserError, match=message):
        criterion(None, [torch.tensor(1.0)], [4], [24])
