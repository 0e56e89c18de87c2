from ccsweep.config.keys import did_you_mean, unknown_key

KNOWN = ["data", "training", "training.l1", "training.l2", "training.learning_rate", "data.verify"]


def test_initials_come_before_spelling() -> None:
    assert unknown_key("training.lr", KNOWN).endswith("did you mean 'training.learning_rate'?")


def test_a_key_of_another_group() -> None:
    assert unknown_key("training.verify", KNOWN).endswith("did you mean 'data.verify'?")


def test_nothing_near_lists_the_siblings() -> None:
    assert unknown_key("training.colour", KNOWN) == (
        "training.colour: no such key; known here: training.l1, training.l2, training.learning_rate"
    )


def test_did_you_mean() -> None:
    assert did_you_mean("contol", ["control", "energy"]) == "; did you mean 'control'?"
    assert did_you_mean("xyz", ["control", "energy"]) == ""
