"""Passwords out of everything that is logged or shown."""

import logging
import re
from typing import Any

HIDDEN = "***"

_SECRET = r"(?:password|passwd|pwd|token|secret|api[_-]?key|access[_-]?key)"
# A quote ends a URI only where it can be a closing quote: pa'ss is a password, 'http://h', is not.
_QUOTE = r"""['"](?![\s,:;)\]}>]|$)"""

# No pattern starts with a repeat or runs on for ever: a megabyte of diff must not take minutes.
_ASSIGNED = re.compile(rf"""({_SECRET}=)("[^"\n]*"|'[^'\n]*'|(?:[^\s&'"]|{_QUOTE})+)""", re.IGNORECASE)
# Two readings of user:password@host exist. RFC 3986 takes the last @ before the path; SQLAlchemy
# takes the first @ and so allows / ? # in a password: there, at most 500 characters are tried.
_IN_AUTHORITY = re.compile(
    rf"""(://[^\s:/?#'"]*:)(?:(?:[^\s/?#'"]|{_QUOTE})*@|(?:[^\s@'"]|{_QUOTE}){{,500}}@)"""
)
_BARE_TOKEN = re.compile(r"""(https?://)[^\s:/?#'"@]+@""", re.IGNORECASE)
_SECRET_KEY = re.compile(rf"{_SECRET}$", re.IGNORECASE)


def mask(text: str) -> str:
    """Return ``text`` with every password in a URI or after ``password=`` replaced by ``***``.

    Works inside longer text (a command line, a traceback, a diff). Also counted as passwords:
    ``token=``, ``secret=``, ``api_key=`` and the bare token of ``https://token@host``.

    >>> mask("cannot reach postgresql://ann:s3cret@db:5432/runs")
    'cannot reach postgresql://ann:***@db:5432/runs'
    >>> mask("https://host/path?user=ann&password=s3cret")
    'https://host/path?user=ann&password=***'
    """
    # First the assignments: a password=a@b in a query would otherwise look like user:...@host.
    text = _ASSIGNED.sub(rf"\1{HIDDEN}", text)
    text = _IN_AUTHORITY.sub(rf"\1{HIDDEN}@", text)
    return _BARE_TOKEN.sub(rf"\1{HIDDEN}@", text)


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
