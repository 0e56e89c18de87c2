"""What the schema says of its keys holds together."""

from dataclasses import asdict

from annotated_types import BaseMetadata
from omegaconf import OmegaConf

from ccsweep.config.check import check
from ccsweep.config.composed import composed
from ccsweep.config.keys import has_role, schema, with_role
from ccsweep.config.marks import ASIDE, Role
from ccsweep.config.schema import Config, EstimatorConfig, RanksConfig
from ccsweep.dotted import leaves


def test_the_epoch_a_gate_starts_in() -> None:
    def gated(setting: bool | int) -> list[bool]:
        estimator = check(composed([f"estimator.gate_in_training={setting}"])).estimator
        return [estimator.gates_in_training(epoch) for epoch in range(3)]

    assert gated(True) == [True, True, True]
    assert gated(False) == [False, False, False]
    assert gated(0) == [True, True, True]
    assert gated(1) == [False, True, True]


def test_every_range_says_in_words_what_it_is() -> None:
    for key in schema().values():
        ranges = [mark for mark in key.marks if isinstance(mark, BaseMetadata)]
        words = [mark for mark in key.marks if isinstance(mark, str)]
        assert len(words) == bool(ranges), key.name


def test_keys_have_the_types_of_the_classes() -> None:
    assert schema()["training.l1"].type is float
    assert schema()["ranks.layers"].type == list[int] | None
    assert [key.name for key in schema().values() if key.is_open] == [
        "sweep.space",
        "sweep.conditions",
        "sweep.objectives",
        "sweep.slurm",
        "sweep.paper",
    ]


def test_what_a_result_does_not_depend_on() -> None:
    assert with_role(*ASIDE) == (
        "model",
        "keep",
        "max_disagreement",
        "pick",
        "to",
        "format",
        "seeds",
        "test",
        "data.dir",
        "data.verify",
        "training.device",
        "training.step",
        "training.resume",
        "tracking",
        "sweep",
    )


def test_what_may_change_on_top_of_a_trained_run() -> None:
    assert with_role(Role.RESUME) == (
        "data.dir",
        "data.file",
        "training.epochs",
        "training.step",
        "training.max_minutes",
        "tracking",
    )
    assert has_role("ranks.layers", Role.RUN)
    assert not has_role("training.epochs", Role.RUN)
    assert not has_role("training", Role.RUN)


def test_no_value_stands_in_the_schema_but_those_of_conf_that_networks_are_built_with() -> None:
    keys = dict(leaves(OmegaConf.to_container(OmegaConf.structured(Config))))  # type: ignore[arg-type]
    assert set(keys.values()) == {"???"}
    assert asdict(EstimatorConfig("svd")) == asdict(check(composed(["estimator=svd"])).estimator)
    assert RanksConfig() == check(composed(["ranks=control"])).ranks
