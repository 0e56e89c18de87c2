"""Values as Hydra reads them on a command line: quoted by Hydra's own rules, and by nobody's hand."""

from hydra.core.override_parser.types import Quote, QuotedString

from ccsweep.errors import UserError


def quoted(text: str) -> str:
    """``text`` as a string that Hydra reads back as it was.

    >>> quoted("o'brien, 1<2")
    "'o\\\\'brien, 1<2'"
    """
    return QuotedString(text=text, quote=Quote.single).with_quotes()


def check_path(key: str, path: str) -> None:
    """Refuse a path that a config cannot hold, or that would break a line.

    Raises:
        UserError: in it is what OmegaConf takes for the name of another value, or what is no character.
    """
    if "${" in path or not path.isprintable():
        what = "${" if "${" in path else "a character that is not printable"
        raise UserError(f"{key}: {path!r} has {what} in it; choose a folder of another name")
