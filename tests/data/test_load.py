"""The way in: names, options, and when a stand-in takes over."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ccsweep.data.mnist
import ccsweep.data.svhn
from ccsweep.data import SOURCES, load
from ccsweep.errors import UserError


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, nowhere: str) -> str:
    for module in (ccsweep.data.mnist, ccsweep.data.svhn):
        monkeypatch.setattr(module, "MIRRORS", (nowhere,))
    return nowhere


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "ccsweep.data" and record.levelno >= logging.WARNING
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "cifar"},
            "data.name=cifar is unknown: use one of mnist, svhn, digits, housenumbers, arrays",
        ),
        (
            {"name": "svhn", "stand_in": "digits"},
            "data.stand_in=digits cannot stand in for svhn: use housenumbers or null",
        ),
        (
            {"name": "digits", "stand_in": "mnist"},
            "data.stand_in=mnist cannot stand in for digits: leave it out",
        ),
        (
            {"name": "mnist", "extra": True},
            "data.extra=true is for svhn, mnist has no extra images: leave it out",
        ),
        (
            {"name": "digits", "samples": 0},
            "data.samples=0 leaves nothing to train on: use 1 or more",
        ),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UserError) as caught:
        load(**arguments)
    assert str(caught.value) == message


def test_missing_without_stand_in(offline, tmp_path):
    with pytest.raises(UserError) as caught:
        load("mnist", directory=tmp_path)
    assert str(caught.value) == (
        f"train-images-idx3-ubyte.gz is not in {tmp_path}/mnist and no mirror has it "
        f"({offline}: no connection): put it there, or set data.dir to a folder with "
        "mnist/train-images-idx3-ubyte.gz, or set data.stand_in=digits"
    )


def test_digits_stand_in_for_mnist(offline, tmp_path, caplog):
    data = load("mnist", directory=tmp_path, stand_in="digits")
    assert (data.name, data.stand_in_for) == ("digits", "mnist")
    assert data.label == "digits (stand-in for mnist)"
    assert data.notes == ("stand-in for mnist, which could not be had",)
    assert data.shape == (28, 28)
    assert data.features == data.train.images.shape[1] == 784
    assert warnings(caplog) == [
        "mnist CANNOT BE HAD, digits STANDS IN FOR IT: "
        f"train-images-idx3-ubyte.gz is not in {tmp_path}/mnist and no mirror has it "
        f"({offline}: no connection): put it there, or set data.dir to a folder with "
        "mnist/train-images-idx3-ubyte.gz"
    ]


def test_housenumbers_stand_in_for_svhn(offline, tmp_path, caplog):
    data = load("svhn", directory=tmp_path, stand_in="housenumbers", samples=45)
    assert data.label == f"housenumbers (stand-in for svhn), {len(data.train.labels)} training images"
    assert data.shape == (32, 32)
    assert [len(split.labels) for split in (data.train, data.validation, data.test)] == [45, 5, 10]
    assert len(warnings(caplog)) == 1


def test_no_stand_in_where_some_files_are(offline, write_svhn, caplog):
    directory = write_svhn(train=120)
    with pytest.raises(UserError) as caught:
        load("svhn", directory=directory, verify=False, stand_in="housenumbers")
    assert str(caught.value) == (
        f"test_32x32.mat is not in {directory}/svhn and no mirror has it "
        f"({offline}: no connection): put it there, or set data.dir to a folder with "
        "svhn/test_32x32.mat"
    )
    assert warnings(caplog) == []


def test_no_stand_in_for_a_wrong_file(offline, write_mnist):
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz has MD5 "):
        load("mnist", directory=write_mnist(), stand_in="digits")


def test_no_stand_in_where_files_are(offline, write_mnist, caplog):
    data = load("mnist", directory=write_mnist(), verify=False, stand_in="digits")
    assert data.stand_in_for is None
    assert warnings(caplog) == []


def test_without_a_directory_files_are_in_the_cache(offline, cache_home, write_mnist):
    cache_home.mkdir(parents=True)
    write_mnist().rename(cache_home / "data")
    assert load("mnist", verify=False).name == "mnist"


def test_home_is_expanded(offline, write_mnist, monkeypatch):
    monkeypatch.setenv("HOME", str(write_mnist().parent))
    assert load("mnist", directory="~/data", verify=False).name == "mnist"


@pytest.mark.parametrize("name", ["digits", "housenumbers"])
def test_same_call_same_data(name):
    first, second = load(name, samples=36), load(name, samples=36)
    assert first.digest == second.digest
    for one, other in zip(
        (first.train, first.validation, first.test),
        (second.train, second.validation, second.test),
        strict=True,
    ):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_names_cost_no_heavy_import():
    script = "import sys, ccsweep.data; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_every_source_has_a_config():
    configs = Path(ccsweep.data.__file__).parents[2] / "conf" / "data"
    assert {path.stem for path in configs.glob("*.yaml")} == set(SOURCES)
