"""A study's report.html at a desk and on a phone, by day and by night."""

import pytest

from tests.browser.conftest import Browser
from tests.conftest import User

pytestmark = pytest.mark.browser

WIDER = """
const most = document.documentElement.clientWidth + 0.5;
const scrolls = element => element && (/auto|scroll|hidden/.test(getComputedStyle(element).overflowX)
  ? true : scrolls(element.parentElement));
return [...document.body.querySelectorAll('*')]
  .filter(e => e.getBoundingClientRect().right > most && !e.closest('svg') && !scrolls(e.parentElement))
  .map(e => e.outerHTML.slice(0, 120))
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_the_page_of_a_study(width: int, dark: bool, home: User, browser: Browser) -> None:
    page = home.folder / "outputs" / "sweeps" / "front" / "report.html"
    browser.open(page.as_uri(), width=width, dark=dark)
    browser.wait("return document.querySelectorAll('.main-svg').length > 0")
    assert browser.errors() == []
    colour = browser("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(colour) < 80) if dark else (min(colour) > 200)
    assert browser("return document.documentElement.scrollWidth") <= width
    assert browser(WIDER) == []
