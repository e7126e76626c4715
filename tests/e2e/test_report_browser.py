"""The report in a real browser: nothing cut off on a phone, nothing fetched, text that can be read in both schemes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bundles import SMELLS, write_bundle
from potemkin.report.render import render

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: install it to look at the report"),
]

FULL = {"held": 46, "broken": 41, "budget": 2, "invalid": 1, "error": 1, "clean_wrong": 9}
LONG = "a_name_without_a_single_space_" * 8
CASES: dict[str, tuple[dict[str, int], tuple[int, ...], dict[str, Any]]] = {
    "pictures with smells": (FULL, (3, 32, 32), {"smells": list(SMELLS), "complete": False}),
    "features": (FULL, (30,), {}),
    "long names": (FULL, (1, 8, 8), {"line": {"broken_by": LONG, "why": LONG}, "why_incomplete": LONG}),
    "empty": ({}, (1, 8, 8), {"complete": False}),
}

# Whatever lies outside the page and is not inside a table that scrolls by itself, or meant for screen readers only.
OVERFLOW = """() => {
  const wide = document.documentElement.clientWidth;
  const out = [...document.querySelectorAll('body *')].filter(e =>
    !e.closest('.scroll, .hidden, .skip, .defs, svg') && e.getBoundingClientRect().right > wide + 0.5);
  return {page: document.documentElement.scrollWidth - wide,
          outside: out.map(e => e.tagName + '.' + e.className + ': ' + e.textContent.slice(0, 40))};
}"""

# The contrast of every element that has text of its own against what is painted behind it.
CONTRAST = """() => {
  const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => { paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
                           return [...paint.getImageData(0, 0, 1, 1).data]; };
  const light = colour => {
    const [r, g, b] = rgba(colour).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ratio = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05); };
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
      if (rgba(c)[3] === 255) return c; } return 'white'; };
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('svg, .hidden, .skip') || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const told = e.tagName + '.' + e.className + ': ' + e.textContent.slice(0, 40);
    found.push([ratio(getComputedStyle(e).color, behind(e)), told]);
  }
  const variable = name => getComputedStyle(document.documentElement).getPropertyValue(name);
  for (const fill of ['held', 'broken', 'broken-deep', 'invalid', 'error'])
    found.push([ratio(variable('--light-text'), variable('--' + fill)), 'light text on ' + fill]);
  for (const fill of ['budget', 'wrong'])
    found.push([ratio(variable('--dark-text'), variable('--' + fill)), 'dark text on ' + fill]);
  found.push([ratio(variable('--soft'), variable('--paper')), 'axis on paper']);
  return {texts: found, paper: light(variable('--paper')),
          fills: ['held', 'broken', 'budget', 'invalid', 'error', 'wrong', 'forwards', 'backwards']
            .map(fill => [ratio(variable('--' + fill), variable('--paper')), fill])};
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield launched
        launched.close()


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts, shape, other = request.param
    folder = tmp_path_factory.mktemp("browser") / "run"
    if "why_incomplete" in other:
        record = write_bundle(folder.with_name("plain"), counts, shape)
        other = other | {
            "complete": False,
            "model": record.model.model_copy(update={"name": LONG, "preprocessing": LONG}),
            "threat": record.threat.model_copy(update={"notation": LONG, "sentence": LONG}),
            "data": record.data.model_copy(update={"name": LONG, "class_names": [LONG] * 10}),
            "attacks": [attack.model_copy(update={"recipe": LONG}) for attack in record.attacks],
            "environment": {LONG: LONG, "command": LONG},
        }
    write_bundle(folder, counts, shape, **other)
    return render(folder)


def opened(browser: Any, report: Path, width: int, scheme: str) -> tuple[Any, list[str]]:
    page = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(f"console {message.type}: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("requestfailed", lambda asked: trouble.append(f"failed: {asked.url[:80]}"))
    page.on(
        "request", lambda asked: asked.url.startswith(("data:", report.as_uri())) or trouble.append(f"asks {asked.url}")
    )
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    return page, trouble


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_nothing_is_cut_off_fetched_or_complained_about(browser: Any, report: Path, width: int) -> None:
    page, trouble = opened(browser, report, width, "light")
    found = page.evaluate(OVERFLOW)
    assert found["outside"] == []
    assert found["page"] <= 0
    assert trouble == []
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_charts_can_be_read(browser: Any, report: Path, scheme: str) -> None:
    page, _ = opened(browser, report, 768, scheme)
    found = page.evaluate(CONTRAST)
    assert (found["paper"] > 0.5) == (scheme == "light")
    assert len(found["texts"]) > 100
    assert [text for ratio, text in found["texts"] if ratio < 4.5] == []
    assert [fill for ratio, fill in found["fills"] if ratio < 3.0] == []
    page.context.close()


def test_every_picture_is_shown(browser: Any, report: Path) -> None:
    page, _ = opened(browser, report, 360, "light")
    broken = "[...document.images].filter(each => !each.complete || !each.naturalWidth || each.clientWidth < 48).length"
    assert page.evaluate(broken) == 0
    page.context.close()
