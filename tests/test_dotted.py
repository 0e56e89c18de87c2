from ccsweep.dotted import is_under, leaves


def test_leaves_keep_lists_and_empty_mappings_whole() -> None:
    nested = {"ranks": {"layers": [75, {"a": 1}], "energy": None}, "sweep": {"space": {}}, "task": "train"}
    assert list(leaves(nested)) == [
        ("ranks.layers", [75, {"a": 1}]),
        ("ranks.energy", None),
        ("sweep.space", {}),
        ("task", "train"),
    ]
    assert list(leaves({})) == []


def test_a_key_is_under_itself_and_its_groups_only() -> None:
    assert is_under("training.l1", ["training.l1"])
    assert is_under("sweep.space.training.l1", ["ranks", "sweep"])
    assert not is_under("training.l1", ["training.l", "sweep.training", "l1"])
    assert not is_under("training", ["training.l1"])
