import errno
import io
import logging
import string
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ccsweep.tracking.mask import Masked, mask, mask_log_records, mask_value

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


@given(st.text(string.printable).filter(lambda text: not set(text) & set(":=") and "--" not in text))
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
        ("/home/x/http:/ann:pw@host", "/home/x/http:/ann:***@host"),
        ("c:/ann:b and more", "c:/ann:b and more"),
        ("https://ghp_0123@github.com/x", "https://***@github.com/x"),
        ("['http://host:80', 'a@b.c']", "['http://host:80', 'a@b.c']"),
        ('{"a":"http://host:80","b":"x@y.z"}', '{"a":"http://host:80","b":"x@y.z"}'),
        ("postgresql://ann:it's@db/x", "postgresql://ann:***@db/x"),
        ("python -m ccsweep token='a b' x=1", "python -m ccsweep token=*** x=1"),
        ("max_tokens=5", "max_tokens=5"),
        ("the tokens: 5, and a secret", "the tokens: 5, and a secret"),
        (
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        ),
        ("+# password:\n+next: line", "+# password:\n+next: line"),
        ("ab" * 16, "ab" * 16),
    ],
)
def test_what_is_left_standing(text, shown):
    assert mask(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password: two words, and more", "password: ***"),
        ("+  db_password: x", "+  db_password: ***"),
        ('{"api_key": "x y", "user": "ann"}', '{"api_key": ***, "user": "ann"}'),
        ("SECRET_KEY = 'x'", "SECRET_KEY = ***"),
        ("-AWS_SECRET_ACCESS_KEY = x", "-AWS_SECRET_ACCESS_KEY = ***"),
        ("self.auth_token := \"x\"", "self.auth_token := ***"),
        ("connect(user='ann', passwd = 'x', port=1)", "connect(user='ann', passwd = ***, port=1)"),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("said 'Authorization: Basic YW5uOnB3' and", "said 'Authorization: Basic ***' and"),
        ("curl -H 'X: 1' with bearer abcdef", "curl -H 'X: 1' with bearer ***"),
        ("mysql --password x --host db", "mysql --password *** --host db"),
        ("run --api-key 'x y' now", "run --api-key *** now"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY-----"),
    ],
)  # fmt: skip
def test_what_is_said_to_be_a_secret(text, shown):
    assert mask(text) == shown
    assert mask(shown) == shown


def test_tokens_are_known_by_their_shape_as_detect_secrets_knows_them():
    """One of each pattern that its detectors have; whose key says already what it is has none here."""
    from detect_secrets.plugins import (
        aws,
        discord,
        github_token,
        gitlab_token,
        jwt,
        openai,
        private_key,
        pypi_token,
        sendgrid,
        slack,
        square_oauth,
        stripe,
        telegram_token,
    )

    examples = {
        aws.AWSKeyDetector: ["AKIAZZZZZZZZZZZZZZZZ", f'aws_secret_key = "{"b" * 40}"'],
        discord.DiscordBotTokenDetector: [f"M{'b' * 23}.{'c' * 6}.{'d' * 27}"],
        github_token.GitHubTokenDetector: [f"ghp_{'b' * 36}"],
        gitlab_token.GitLabTokenDetector: [f"glpat-{'b' * 20}"],
        jwt.JwtTokenDetector: ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.bbbb"],
        openai.OpenAIDetector: [f"sk-{'b' * 20}T3BlbkFJ{'c' * 20}"],
        private_key.PrivateKeyDetector: ["-----BEGIN OPENSSH PRIVATE KEY-----\nbbbb"],
        pypi_token.PypiTokenDetector: [f"pypi-AgEIcHlwaS5vcmc{'b' * 70}"],
        sendgrid.SendGridDetector: [f"SG.{'b' * 22}.{'c' * 43}"],
        slack.SlackDetector: ["xoxb-123-bbbbbbbbbb", "https://hooks.slack.com/services/Tb/Bb/bbb"],
        square_oauth.SquareOAuthDetector: [f"sq0csp-{'b' * 43}"],
        stripe.StripeDetector: [f"sk_live_{'b' * 24}"],
        telegram_token.TelegramBotTokenDetector: [f"12345678:{'b' * 35}"],
    }
    for detector, texts in examples.items():
        for text in texts:
            assert list(detector().analyze_string(text)), text
            assert "bbb" not in mask(f"with {text} in it").replace("Tb/Bb", ""), text
            assert "ZZZ" not in mask(f"with {text} in it"), text


def test_what_is_printed_is_masked_line_by_line():
    shown = io.StringIO()
    stream = Masked(shown)
    print("Error executing job with overrides: ['tracking.uri=postgresql://ann:s3", end="", file=stream)
    assert shown.getvalue() == ""  # the password may go on
    print("cret@db/runs']", file=stream)
    assert (
        shown.getvalue()
        == "Error executing job with overrides: ['tracking.uri=postgresql://ann:***@db/runs']\n"
    )
    print("no end", end="", file=stream, flush=True)
    assert shown.getvalue().endswith("\nno end")
    assert not stream.isatty()


def test_a_stream_that_is_closed_to_writing_ends_nothing():
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    stream = Masked(Full())
    assert stream.write("a line\nand more") == 15
    stream.flush()


def test_a_value_under_a_secret_key_is_hidden_whole():
    assert mask_value("tracking.password", "two words") == "***"
    assert mask_value("tracking.uri", "http://a:b@c") == "http://a:***@c"
    assert mask_value("token", "") == ""


@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000,
        "http://host:80/a," * 20_000,
        "token" * 99_999,
        "--" * 400_000,
        "- " * 400_000,
        "aws" * 300_000,
    ],
)
def test_long_lines_take_no_time(text):
    began = time.process_time()
    assert mask(text) == text
    assert time.process_time() - began < 5


def test_log_records_are_masked_after_their_arguments_are_in(caplog):
    factory = logging.getLogRecordFactory()
    try:
        mask_log_records()
        logging.getLogger("somebody").warning("cannot reach %s", "redis://ann:s3cret@db")
    finally:
        logging.setLogRecordFactory(factory)
    assert caplog.messages == ["cannot reach redis://ann:***@db"]
