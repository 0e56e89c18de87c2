"""What Hydra and OmegaConf complain about is one line with the key, what was found and what is expected."""

import pytest

from tests.config.complaint import complaint


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            "training.learning_rate=abc",
            "training.learning_rate: value 'abc' of type 'str' could not be converted to Float",
        ),
        ("training.lr=0.1", "training.lr: no such key; did you mean 'training.learning_rate'?"),
        ("trainig.epochs=3", "trainig: no such key; did you mean 'training'?"),
        ("learning_rate=1", "learning_rate: no such key; did you mean 'training.learning_rate'?"),
        ("rank=control", "rank: no such key; did you mean 'ranks'?"),
        ("seed=1", "seed: no such key; did you mean 'training.seed'?"),
        ("experiment=svhn", "experiment: is added with a plus, as in +experiment=mnist"),
        ("+ranks=control", "ranks: has a value already; write ranks=... without the plus"),
        (
            "data=minst",
            "data=minst: no such option; expected one of arrays, digits, housenumbers, mnist, svhn; did you mean 'mnist'?",
        ),
        (
            "ranks=16-12,control",
            "ranks=16-12,control: several values need -m, as in python -m ccsweep -m ranks=16-12,control",
        ),
        (
            "ranks.layers=[1,2",
            "ranks.layers=[1,2: cannot be read as key=value; quote lists, as in 'ranks.layers=[40,30,20]'",
        ),
        (
            "training.epochs=2.5",
            "training.epochs: value '2.5' of type 'float' could not be converted to Integer",
        ),
        (
            "++sweep.slurm=partition:main",  # what bash leaves of braces without quotes
            "sweep.slurm: is no mapping; expected 'sweep.slurm={a:1,b:2}', in quotes: a shell takes braces apart",
        ),
        (
            "cluster=lab",
            "cluster=lab: no such option; expected one of local, slurm; a profile of your own is found with "
            "--config-dir=PLACE, in PLACE/cluster",
        ),
        ("hydra/launcher=jobli", "hydra/launcher=jobli: no such option; expected one of basic"),
        (
            "hydra.run.dirr=x",
            "hydra.run.dirr: no such key in Hydra's own config; python -m ccsweep --cfg hydra shows it",
        ),
    ],
)
def test_mistakes(overrides: str, line: str) -> None:
    assert complaint(overrides) == line


def test_an_unknown_rank_row_says_how_to_write_other_ranks() -> None:
    line = complaint("ranks=40-30-20")
    assert line.startswith("ranks=40-30-20: no such option; expected one of 10-10-5, ")
    assert line.endswith("; for any other ranks write 'ranks.layers=[40,30,20]'")
