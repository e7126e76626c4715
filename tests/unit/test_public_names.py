"""The public names: lazily found, all there, and none hidden by a module of the same name."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import potemkin

HEAVY = ("torch", "numpy", "pydantic", "rich", "cyclopts", "jinja2", "PIL", "safetensors")


def fresh(code: str) -> str:
    """What `code` prints in a new interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_potemkin_loads_nothing_heavy() -> None:
    loaded = json.loads(fresh("import json, sys, potemkin; print(json.dumps(sorted(sys.modules)))"))
    assert "potemkin" in loaded
    assert not {name.split(".")[0] for name in loaded} & set(HEAVY)
    assert [name for name in loaded if name.startswith("potemkin.")] == []


@pytest.mark.parametrize("name", potemkin.__all__)
def test_every_public_name_resolves(name: str) -> None:
    value = getattr(potemkin, name)
    # A module here would mean that a submodule hides the name.
    if name in potemkin._ROOMS:
        assert value.__name__ == potemkin._ROOMS[name]
        return
    assert not isinstance(value, type(sys)), f"potemkin.{name} is a module"
    if name != "__version__":
        assert value.__name__ == name
        assert value.__doc__


def test_all_is_what_the_type_checker_sees() -> None:
    tree = ast.parse(Path(potemkin.__file__).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imported = {
        alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert {*imported, "__version__"} == set(potemkin.__all__)
    rooms = {name: module.rpartition(".")[0] for name, module in potemkin._ROOMS.items()}
    assert imported == potemkin._HOME | rooms


def test_dir_lists_the_public_names_without_loading_them() -> None:
    assert set(potemkin.__all__) <= set(dir(potemkin))
    assert fresh("import sys, potemkin; dir(potemkin); print('torch' in sys.modules)").strip() == "False"


def test_star_import_brings_exactly_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from potemkin import *", names)  # noqa: S102  (a star import is a statement; there is no other way to ask)
    assert set(names) - {"__builtins__"} == set(potemkin.__all__)


def test_an_unknown_name_says_so_and_suggests_one() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'adit'.*'audit'"):
        potemkin.adit  # noqa: B018


def test_the_modules_do_not_hide_the_verbs() -> None:
    """`import potemkin.evaluate.audit` must leave `potemkin.audit` the function, in either order."""
    for module in ("potemkin.evaluate.audit", "potemkin.evaluate.verify", "potemkin.attacks.recipes.pgd"):
        importlib.import_module(module)
    assert callable(potemkin.audit)
    assert callable(potemkin.verify)
    assert isinstance(potemkin.pgd, type)


def test_python_dash_m_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "potemkin", "--help"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "audit" in done.stdout
