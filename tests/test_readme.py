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


def test_the_map_has_a_line_for_each_place() -> None:
    named = re.findall(r"^\| `([^`]+)` \|", README, flags=re.MULTILINE)
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    top = [p for p in ROOT.iterdir() if p.is_dir() and p.suffix != ".egg-info" and p.name[0] != "."]
    rooms = {f"{p.name}/" for p in top if p.name not in ignored} - {"ccsweep/"}
    inside = [p for p in (ROOT / "ccsweep").iterdir() if not p.name.startswith("__")]
    rooms |= {f"ccsweep/{p.name}/" if p.is_dir() else f"ccsweep/{p.name}" for p in inside}
    assert sorted(named) == sorted(rooms)


def test_the_recipes_name_files_that_exist() -> None:
    recipes = README[README.index("## To add something") : README.index("## Licence")]
    paths = re.findall(r"`((?:ccsweep|conf)/[^`]+)`", recipes)
    assert len(paths) >= 15
    for path in paths:
        assert (ROOT / path).exists() or "NAME" in path, path
