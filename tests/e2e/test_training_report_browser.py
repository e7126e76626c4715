"""The training report in a real browser: nothing cut off on a phone, nothing fetched, lines that can be told apart."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bundles import SMELLS, write_bundle
from journals import ALARM, evaluation_of, healthy, huge, overfitting, step_of, write_run
from potemkin.evaluate.record import Smell
from potemkin.report.render import render
from potemkin.report.training import render_training
from potemkin.training.journal import Brought, MarkLine

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: install it to look at the report"),
]

LONG = "a_name_without_a_single_space_" * 8
SHARES = {"clean": 0.5, "robust": 0.2, "training_attack": 0.25, "one_step": 0.3}
BROUGHT = Brought(spec=LONG, name=LONG, fingerprint=LONG, details={LONG: LONG})
LONG_ALARM = ALARM.model_copy(update={"name": LONG, "message": LONG, "advice": LONG, "evidence": {LONG: LONG}})
LONG_SMELL = Smell(name=LONG, severity="warning", message=LONG, advice=LONG)
CASES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "healthy": (healthy(weights=("current", "average")), {}),
    "overfitting": (overfitting(), {}),
    "empty": ([], {}),
    "one": ([step_of(100), evaluation_of(1, "validation", SHARES)], {}),
    "long": (huge(4000, 350), {}),
    "from Python, with an audit": (
        healthy(),
        {"model": Brought(spec=None, name="Sequential"), "command": None, "audit": [*SMELLS, LONG_SMELL]},
    ),
    "long names": (
        [*healthy(), LONG_ALARM, MarkLine(step=3000, epoch=30.0, what="stopped", message=LONG)],
        dict.fromkeys(("recipe", "threat", "threat_notation", "command"), LONG)
        | {"model": BROUGHT, "data": BROUGHT, "validation": BROUGHT, "settings": {LONG: LONG}},
    ),
}

# Whatever lies outside the page and is not inside a table that scrolls by itself, or meant for screen readers only;
# of the charts, the text too: it is placed by arithmetic, not by the browser.
OVERFLOW = """() => {
  const wide = document.documentElement.clientWidth;
  const out = [...document.querySelectorAll('body *')].filter(e =>
    !e.closest('.scroll, .hidden, .skip, .defs') && (!e.closest('svg') || e.matches('text, circle')) &&
    (e.getBoundingClientRect().right > wide + 0.5 || e.getBoundingClientRect().left < -0.5));
  return {page: document.documentElement.scrollWidth - wide,
          outside: out.map(e => e.tagName + '.' + e.getAttribute('class') + ': ' + e.textContent.slice(0, 40))};
}"""

# Texts of one chart that lie on one another.
OVERLAPS = """() => [...document.querySelectorAll('.plot-area')].flatMap(area => {
  const boxes = [...area.querySelectorAll('text')].map(e => [e.textContent, e.getBoundingClientRect()]);
  return boxes.flatMap(([one, a], i) => boxes.slice(i + 1).filter(([, b]) =>
    a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 4 && b.top < a.bottom - 4)
    .map(([other]) => one + ' / ' + other));
})"""

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
  const texts = [...document.querySelectorAll('body *')].filter(e => !e.closest('.hidden, .skip, title, desc') &&
    [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
  return {
    texts: texts.map(e => [ratio(getComputedStyle(e)[e.matches('svg text') ? 'fill' : 'color'], behind(e)),
                           e.tagName + ': ' + e.textContent.slice(0, 40)]),
    lines: [...document.querySelectorAll('path.curve, .event')].map(e =>
      [ratio(getComputedStyle(e).stroke, behind(e)), e.getAttribute('class')])};
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
    lines, other = request.param
    folder = tmp_path_factory.mktemp("browser") / "run"
    write_run(folder, lines, **{name: value for name, value in other.items() if name != "audit"})
    if "audit" in other:
        write_bundle(folder / "audit", {"held": 30, "broken": 20}, smells=other["audit"])
    return render_training(folder)


def opened(browser: Any, report: Path, width: int, scheme: str) -> tuple[Any, list[str]]:
    page = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme).new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(f"console {message.type}: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("request", lambda asked: asked.url == report.as_uri() or trouble.append(f"asks {asked.url}"))
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    return page, trouble


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_nothing_is_cut_off_fetched_or_complained_about(browser: Any, report: Path, width: int) -> None:
    page, trouble = opened(browser, report, width, "light")
    found = page.evaluate(OVERFLOW)
    assert found["outside"] == []
    assert found["page"] <= 0
    assert page.evaluate(OVERLAPS) == []
    assert trouble == []
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_can_be_read(browser: Any, report: Path, scheme: str) -> None:
    page, _ = opened(browser, report, 768, scheme)
    found = page.evaluate(CONTRAST)
    assert len(found["texts"]) > 50
    assert [text for ratio, text in found["texts"] if ratio < 4.5] == []
    assert [line for ratio, line in found["lines"] if ratio < 3.0] == []
    page.context.close()


def test_lines_are_drawn_as_high_as_their_values(browser: Any, tmp_path: Path) -> None:
    """Robust accuracy of 20 %, then 80 %: a fifth and four fifths of the chart's height, whatever its width."""
    lines = [evaluation_of(epoch, "validation", SHARES | {"robust": robust}) for epoch, robust in ((0, 0.2), (10, 0.8))]
    report = render_training(write_run(tmp_path / "run", lines))
    for width in (360, 1280):
        page, _ = opened(browser, report, width, "light")
        share = page.evaluate("""() => { const chart = document.querySelector('svg.curves').getBoundingClientRect();
            const line = document.querySelector('path.curve.robust').getBoundingClientRect();
            return [(line.top - chart.top) / chart.height, (line.bottom - chart.top) / chart.height,
                    (line.left - chart.left) / chart.width, (line.right - chart.left) / chart.width]; }""")
        assert share == pytest.approx([0.2, 0.8, 0.0, 1.0], abs=0.02)
        page.context.close()


def test_the_link_to_the_audit_arrives(browser: Any, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", healthy())
    write_bundle(folder / "audit", {"held": 30, "broken": 20})
    render(folder / "audit")
    page, _ = opened(browser, render_training(folder), 768, "light")
    page.click("a[href='audit/report.html']")
    assert page.inner_text("h2#verdict-title") == "Verdict"
    assert page.url == (folder / "audit" / "report.html").as_uri()
    page.context.close()
