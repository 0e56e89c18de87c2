import logging
import string
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ccsweep.tracking.mask import mask, mask_log_records, mask_value

# What passwords are made of that nobody encoded. Beside the marker that tells one from the text
# around it: @ is left out, or / ? # are, for the two readings of a URI (see the module).
_CHARACTERS = set(string.ascii_letters + string.digits + string.punctuation)
MARK = "Zq7"


def _passwords(without: str) -> st.SearchStrategy[str]:
    characters = "".join(sorted(_CHARACTERS - set(without + "'\"")))
    return st.text(characters, max_size=20).map(lambda text: f"{MARK}{text}{MARK}")


words = st.text(string.ascii_letters + " ,.:;()\n", max_size=30)
names = st.text(string.ascii_lowercase + "_-.", max_size=8)


@given(words, names, _passwords(without="/?#") | _passwords(without="@"), words)
@example("", "", f"{MARK}password=a&b{MARK}", "")
@example("", "u", f"{MARK}@{MARK}", "")
def test_a_password_in_a_uri_never_survives(before, user, password, after):
    text = f"{before} postgresql+psycopg://{user}:{password}@db.host:5432/runs {after}"
    assert MARK not in mask(text)


@given(words, st.sampled_from(["password", "token", "api_key", "sslpassword", "db.PASSWORD"]),
       _passwords(without="&"), words)  # fmt: skip
def test_a_password_in_a_query_never_survives(before, key, password, after):
    for separator in ("?", "?user=ann&", "?a=1&b=c@d&"):
        shown = mask(f"{before} http://host:80/path{separator}{key}={password}&x=1 {after}")
        assert MARK not in shown


@given(st.text(string.printable).filter(lambda text: "://" not in text and "=" not in text))
def test_text_without_a_uri_is_unchanged(text):
    assert mask(text) == text


@given(st.text())
def test_masking_twice_changes_nothing_more(text):
    assert mask(mask(text)) == mask(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:////home/ann/mlflow.db", "sqlite:////home/ann/mlflow.db"),
        ("git@host:repo, ssh://git@host/repo", "git@host:repo, ssh://git@host/repo"),
        ("http://ann:pw@host/x?mail=a@b.c", "http://ann:***@host/x?mail=a@b.c"),
        ("redis://:pw@host", "redis://:***@host"),
        ("https://ghp_0123@github.com/x", "https://***@github.com/x"),
        ("['http://host:80', 'a@b.c']", "['http://host:80', 'a@b.c']"),
        ('{"a":"http://host:80","b":"x@y.z"}', '{"a":"http://host:80","b":"x@y.z"}'),
        ("postgresql://ann:it's@db/x", "postgresql://ann:***@db/x"),
        ("python -m ccsweep token='a b' x=1", "python -m ccsweep token=*** x=1"),
        ("max_tokens=5", "max_tokens=5"),
    ],
)
def test_what_is_left_standing(text, shown):
    assert mask(text) == shown


def test_a_value_under_a_secret_key_is_hidden_whole():
    assert mask_value("tracking.password", "two words") == "***"
    assert mask_value("tracking.uri", "http://a:b@c") == "http://a:***@c"
    assert mask_value("token", "") == ""


@pytest.mark.parametrize("text", ["a" * 1_000_000, "http://host:80/a," * 20_000, "token" * 99_999])
def test_long_lines_take_no_time(text):
    began = time.perf_counter()
    assert mask(text) == text
    assert time.perf_counter() - began < 5


def test_log_records_are_masked_after_their_arguments_are_in(caplog):
    factory = logging.getLogRecordFactory()
    try:
        mask_log_records()
        logging.getLogger("somebody").warning("cannot reach %s", "redis://ann:s3cret@db")
    finally:
        logging.setLogRecordFactory(factory)
    assert caplog.messages == ["cannot reach redis://ann:***@db"]
