"""The pages: every link leads somewhere, and the code of README, guide and theory runs as printed.

    ```python            run; the blocks of one page share a namespace, in order
    ```python no-run     shown only (needs a library or a model that is not here)
    ```python file=NAME  written to NAME, for the blocks after it
    ```console           lines that start with "$ " are run in a shell; "# exit 1" at a line's end expects that code
    ```sh, ```text …     shown only

All blocks of a page run in one empty folder.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
RUNNABLE = [ROOT / "README.md", *sorted(ROOT.glob("docs/guide/*.md")), *sorted(ROOT.glob("docs/theory/*.md"))]

FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
HEADING = re.compile(r"^#+\s+(.*?)\s*$", re.MULTILINE)
EXIT = re.compile(r"\s+# exit (\d+)$")


@dataclass(frozen=True)
class Block:
    kind: str
    options: tuple[str, ...]
    body: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        kind, *options = match["info"].split() or [""]
        yield Block(kind, tuple(options), match["body"], text.count("\n", 0, match.start()) + 1)


def commands(body: str) -> Iterator[tuple[str, int]]:
    """Each command of a console block, continuation lines joined, with the exit code that it should have."""
    for entry in re.findall(r"^\$ ((?:.*\\\n)*.*)$", body, re.MULTILINE):
        command, expected = entry, 0
        if match := EXIT.search(entry):
            command, expected = entry[: match.start()], int(match[1])
        yield command, expected


SHELL = """
import subprocess

def _shell(command, expected, line):
    code = subprocess.run(["bash", "-c", command]).returncode
    assert code == expected, f"line {line}: exit {code}, not {expected}: {command}"
"""


def program(page: Path) -> str:
    """One Python program that does what the page says; empty if there is nothing to do."""
    parts = []
    for block in blocks(page):
        if block.kind == "python" and "no-run" not in block.options:
            files = [option.removeprefix("file=") for option in block.options if option.startswith("file=")]
            write = (
                f"with open({files[0]!r}, 'w') as _file:\n    _file.write({block.body!r})\n" if files else block.body
            )
            parts.append(f"# {page.name}, line {block.line}\n{write}")
        elif block.kind == "console":
            parts += [f"_shell({command!r}, {code}, {block.line})\n" for command, code in commands(block.body)]
    return SHELL + "\n".join(parts) if parts else ""


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    kept = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]|\]\([^)]*\)", "", heading).lower())
    return kept.replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen:
            continue
        seen.add(page)
        links = (unquote(link).partition("#")[0] for link in LINK.findall(page.read_text(encoding="utf-8")))
        todo += [t for link in links if link.endswith(".md") and (t := (page.parent / link).resolve()).exists()]
    assert [name_of(page) for page in PAGES if page not in seen] == []


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program where `python` and `potemkin` are those of this environment."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=540)


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"help", "demo", "test", "check", "bench", "docs", "parity"} <= targets
    for page in PAGES:
        named = re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(named) <= targets, name_of(page)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in RUNNABLE if program(page)], ids=name_of)
def test_the_code_runs_as_printed(page: Path, tmp_path: Path) -> None:
    done = run(program(page), tmp_path)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def test_the_readme_and_the_guide_have_code_that_runs() -> None:
    """So that the test above cannot pass by running nothing."""
    assert {page.name for page in RUNNABLE if program(page)} >= {
        "README.md",
        "bring-your-model.md",
        "choosing-an-attack.md",
        "coming-from-other-libraries.md",
        "reading-the-report.md",
        "threat-models.md",
    }
    assert "potemkin audit my_models" in program(ROOT / "README.md")
    assert "pk.audit(" in program(ROOT / "README.md")


PAGE = """\
```python file=made.py
VALUE = 7
```
```console
$ false # exit 1
what was printed
$ echo a \\
    b > out
```
```python
import made
```
<!-- not shown, but run
```python
assert made.VALUE == 7
```
-->
```python no-run
raise SystemExit(1)
```
"""


@pytest.mark.parametrize(
    ("text", "code"),
    [(PAGE, 0), ("```console\n$ false\n```\n", 1), ("```python\nassert False\n```\n", 1), ("```sh\nfalse\n```\n", 0)],
)
def test_how_a_page_is_read(text: str, code: int, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    done = run(program(page), tmp_path)
    assert done.returncode == code, done.stderr
    if text is PAGE:
        assert (tmp_path / "out").read_text(encoding="utf-8") == "a b\n"
