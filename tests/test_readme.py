"""The commands that README.md shows are commands that work."""

import re
import shlex

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from ccsweep.config.check import check
from ccsweep.config.places import root
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL))
COMMANDS = [
    shlex.split(line, comments=True)[3:]
    for line in SHELL.splitlines()
    if line.startswith("python -m ccsweep ") or line == "python -m ccsweep"
]


def test_the_commands_were_found() -> None:
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_composes(command: list[str]) -> None:
    overrides = [argument for argument in command if argument != "-m"]
    if "-m" in command:  # each value of a list in its turn
        parsed = OverridesParser.create().parse_overrides(overrides)
        for override in parsed:
            if override.is_sweep_override():
                for value in override.sweep_string_iterator():
                    rest = [o.input_line for o in parsed if o is not override]
                    composes([*rest, f"{override.key_or_group}={value}"])
    else:
        composes(overrides)


def composes(overrides: list[str]) -> None:
    with initialize_config_dir(str(root() / "conf"), version_base="1.3"):
        check(compose("config", overrides=overrides))


def test_make_has_the_targets_that_the_readme_names() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"^    make (\w+)", README, flags=re.MULTILINE) + re.findall(r"`make (\w+)`", README)
    assert {"run", "test", "ui"} <= set(named)
    for target in named:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_map_names_folders_that_exist() -> None:
    for name in re.findall(r"^\| (`[^|]+) \|", README, flags=re.MULTILINE):
        for path in re.findall(r"`([^`]+)`", name):
            assert (ROOT / path).exists() or (ROOT / "ccsweep" / path).exists(), path
