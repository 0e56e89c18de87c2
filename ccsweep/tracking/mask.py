"""Passwords out of everything that is logged or shown."""

import io
import logging
import re
import sys
import threading
from contextlib import suppress
from typing import Any, TextIO

HIDDEN = "***"

_SECRET = (
    r"(?:passw(?:or)?d|passphrase|pwd|token|secret|credentials?|"
    r"(?:api|access|auth|private|secret|account|service|client|db)[_-]?key)"
)
# A quote ends a URI only where it can be a closing quote: pa'ss is a password, 'http://h', is not.
_QUOTE = r"""['"](?![\s,:;)\]}>]|$)"""
_QUOTED = r""""[^"\n]*"|'[^'\n]*'"""

# No pattern starts with a repeat or runs on for ever: a megabyte of diff must not take minutes.
_ASSIGNED = re.compile(rf"""({_SECRET}=)({_QUOTED}|(?:[^\s&'"]|{_QUOTE})+)""", re.IGNORECASE)
_NAME = rf"{_SECRET}(?:[_-][\w-]{{1,30}})?"
# As in YAML and headers: alone on its line, in a diff after a sign, the value goes on to the end of it.
_ON_A_LINE = re.compile(
    rf"""^([+ -]?[ \t]{{0,40}}(?:- )?['"]?(?:[\w.-]{{0,30}}?{_NAME}|authorization)['"]?[ \t]{{0,4}}"""
    r"""(?::=|=>|[:=])[ \t]{0,9})(?!["'=>])([^\s#].*)$""",
    re.IGNORECASE | re.MULTILINE,
)
# As in JSON and programs: "api_key": "x", SECRET_KEY = "x", password: x.
_NAMED = re.compile(
    rf"""({_NAME}['"]?[ \t]{{0,4}}(?::=|=>|={{1,3}}|!=|:)[ \t]{{0,4}})({_QUOTED}|[^\s'",;)\]}}]+)""",
    re.IGNORECASE,
)
_FLAG = re.compile(
    rf"""((?<![\w-])--[\w-]{{0,30}}?{_NAME}[ \t]+)({_QUOTED}|[^\s'"-][^\s'"]*)""", re.IGNORECASE
)
_BEARER = re.compile(
    r"""\b(bearer[ \t]+|authorization['"]?[ \t]*[:=][ \t]*['"]?\w+[ \t]+)[\w.~+/=-]+""", re.IGNORECASE
)
# Tokens that are known by their shape: the patterns of detect-secrets 1.5 (Yelp, Apache 2.0).
_SHAPES = re.compile(
    r"""\b(?:(?:A3T[A-Z0-9]|ABIA|ACCA|AKIA|ASIA)[0-9A-Z]{16}"""  # AWS
    r"""|gh[pousr]_[A-Za-z0-9_]{36}|github_pat_\w{22,82}|gl[a-z]{2,5}-[\w-]{20,50}"""
    r"""|xox[abposr]-[\w-]{10,90}|sk-[\w-]{0,60}[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}"""
    r"""|[rs]k_live_[0-9a-zA-Z]{24}|sq0csp-[\w\\-]{43}|SG\.[\w-]{22}\.[\w-]{43}"""
    r"""|pypi-AgE[\w-]{70,}|npm_[A-Za-z0-9]{36}|hf_[A-Za-z0-9]{34}"""
    r"""|eyJ[\w=-]{8,}\.[\w=-]{8,}(?:\.[\w.+/=-]*)?"""  # JSON web tokens
    r"""|[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27}|\d{8,10}:[\w-]{35}(?!\w)|AKC[a-zA-Z0-9]{10,}"""
    r"""|[0-9a-f]{32}-us[0-9]{1,2}\b)"""
    r"""|(?<=AccountKey=)[a-zA-Z0-9+/=]{88}|(?<=hooks\.slack\.com/services/)T\w+/B\w+/\w+"""
)
_AWS_SECRET = re.compile(
    r"""(aws.{0,20}?(?:key|pwd|pw|password|pass|token).{0,20}?['"])[0-9a-zA-Z/+]{40}(?=['"])""", re.IGNORECASE
)
_PRIVATE_KEY = re.compile(
    r"(-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY[A-Z ]{0,10}-----)(?:(?!-----END)[\s\S]){1,20000}"
)
# Two readings of user:password@host exist. RFC 3986 takes the last @ before the path; SQLAlchemy
# takes the first @ and so allows / ? # in a password: there, at most 500 characters are tried.
# A URI that was taken for a path has lost one of its slashes.
_IN_AUTHORITY = re.compile(
    rf"""(:/{{1,2}}[^\s:/?#'"]*:)(?:(?:[^\s/?#'"]|{_QUOTE})*@|(?:[^\s@'"]|{_QUOTE}){{,500}}@)"""
)
_BARE_TOKEN = re.compile(r"""(https?:/{1,2})[^\s:/?#'"@]+@""", re.IGNORECASE)
_SECRET_KEY = re.compile(rf"{_NAME}$", re.IGNORECASE)


def mask(text: str) -> str:
    """Return ``text`` with every password in a URI, or after a name that says so, replaced by ``***``.

    Works inside longer text (a command line, a traceback, a diff, a config). Also counted as passwords:
    ``token``, ``secret``, ``api_key`` and their like, ``Bearer x``, the bare token of ``https://token@host``,
    private keys, and tokens that are known by their shape.

    >>> mask("cannot reach postgresql://ann:s3cret@db:5432/runs")
    'cannot reach postgresql://ann:***@db:5432/runs'
    >>> mask("https://host/path?user=ann&password=s3cret")
    'https://host/path?user=ann&password=***'
    >>> mask("password: two words")
    'password: ***'
    """
    # First the assignments: a password=a@b in a query would otherwise look like user:...@host.
    text = _ASSIGNED.sub(rf"\1{HIDDEN}", text)
    text = _IN_AUTHORITY.sub(rf"\1{HIDDEN}@", text)
    text = _BARE_TOKEN.sub(rf"\1{HIDDEN}@", text)
    for pattern in (_PRIVATE_KEY, _ON_A_LINE, _BEARER, _NAMED, _FLAG, _AWS_SECRET):
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return _SHAPES.sub(HIDDEN, text)


def mask_value(key: str, value: str) -> str:
    """Return what may be logged for ``key: value``: nothing of it when the key names a secret.

    >>> mask_value("db.password", "s3cret")
    '***'
    """
    return HIDDEN if value and _SECRET_KEY.search(key) else mask(value)


def mask_log_records() -> None:
    """Mask every log record of the process: Hydra's launcher logs the overrides of each job."""
    make = logging.getLogRecordFactory()

    def masked(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        record.msg, record.args = mask(record.getMessage()), ()
        return record

    logging.setLogRecordFactory(masked)


class Masked(io.TextIOBase):
    """A text stream that writes to another one, without passwords; what is no whole line waits for a flush.

    A terminal that was closed, or a full disk behind ``>``, ends no run.

    Args:
        stream: as ``sys.stderr``.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._rest, self._lock = stream, "", threading.RLock()

    def write(self, text: str) -> int:
        """Write what has become whole lines, masked."""
        with self._lock:
            self._rest += text
            end = max(self._rest.rfind("\n"), self._rest.rfind("\r")) + 1
            if end:
                lines, self._rest = self._rest[:end], self._rest[end:]
                with suppress(OSError):
                    self._stream.write(mask(lines))
        return len(text)

    def flush(self) -> None:
        """Write the rest, too."""
        with self._lock:
            rest, self._rest = self._rest, ""
            with suppress(OSError):
                self._stream.write(mask(rest))
                self._stream.flush()

    def fileno(self) -> int:
        """Of the stream."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream."""
        return self._stream.encoding


def mask_streams() -> None:
    """Mask all that this process prints, also what other packages print of an error."""
    sys.stdout, sys.stderr = Masked(sys.stdout), Masked(sys.stderr)
