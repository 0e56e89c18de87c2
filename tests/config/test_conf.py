"""Every key of the schema stands in ``conf/`` with what it means, and the comments say what is true."""

import re

import pytest

from ccsweep.config.keys import schema
from ccsweep.config.marks import OneOf
from ccsweep.config.places import root

LEAVES = [key for key in schema() if not any(other.startswith(f"{key}.") for other in schema())]


def places(key: str) -> list[tuple[str, str]]:
    """Each line of ``conf/`` that gives the key a value, and its comment: beside it, or the lines above."""
    group, _, name = key.rpartition(".")
    config = (root() / "conf" / "config.yaml").read_text()
    if group:
        files = sorted((root() / "conf" / group).glob("*.yaml")) if (root() / "conf" / group).is_dir() else []
        texts = [file.read_text() for file in files]
        sections = re.findall(rf"^{group}:.*\n((?:[ ].*\n)+)", config, flags=re.MULTILINE)
        texts += [re.sub(r"^  ", "", section, flags=re.MULTILINE) for section in sections]
    else:
        texts = [config]
    found = []
    for text in texts:
        title = re.match(r"(#.*\n)*", text)
        assert title is not None
        lines = text[title.end() :].splitlines()
        for above, line in zip(["", *lines], lines, strict=False):
            if line.startswith(f"{name}:"):
                value, _, comment = line.partition(" #")
                comment = comment or (above.lstrip("# ") if above.startswith("#") else "")
                found.append((value.strip(), comment.strip()))
    return found


@pytest.mark.parametrize("key", LEAVES)
def test_every_key_has_a_value_and_an_explanation(key: str) -> None:
    assert places(key), f"{key} stands nowhere in conf/"
    assert any(comment for _, comment in places(key)), f"{key} is explained nowhere in conf/"


@pytest.mark.parametrize(
    ("key", "names"),
    [(k.name, list(mark)) for k in schema().values() for mark in k.marks if isinstance(mark, OneOf)],
)
def test_a_key_that_takes_names_lists_them_all(key: str, names: list[str]) -> None:
    comments = [set(re.findall(r"[\w/]+", comment)) for _, comment in places(key)]
    assert any(set(names) <= words for words in comments)


def test_the_files_that_comments_name_exist() -> None:
    for file in [*(root() / "conf").rglob("*.yaml"), *(root() / "sweeps").glob("*.yaml")]:
        for path in re.findall(r"#.*?\b((?:ccsweep|conf|docs|sweeps)/[\w/.-]+\.\w+)", file.read_text()):
            assert "NAME" in path or (root() / path).is_file(), f"{file.name}: {path}"
