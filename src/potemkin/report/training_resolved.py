"""What a notation leaves out: the defaults of optimisers, schedules and recipes, read from their source as text.

The page is drawn without torch, which these classes need. The defaults are those of the potemkin that draws: the page
tells them only where the same version trained.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from functools import cache
from pathlib import Path

import potemkin
from potemkin.report.typeset import number

_ROOM = Path(potemkin.__file__).parent / "training"
_OPERATIONS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_ONE_STEP = ("fgsm(", "step_ll(", "step_rnd(")


def in_full(notation: str) -> str:
    """The notation with every argument in it; as it is where its name is not known here.

    >>> in_full("Cosine()")
    'Cosine(warmup=0.05)'
    """
    values = arguments(notation)
    if not values:
        return notation
    return f"{notation.partition('(')[0].strip()}({', '.join(f'{name}={text}' for name, text in values.items())})"


def arguments(notation: str) -> dict[str, str]:
    """All arguments by name, what is given in place of the defaults; empty where the name is not known here."""
    call = _parsed(notation)
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in _classes():
        return {}
    values = _defaults(call.func.id)
    given = dict(zip(values, map(ast.unparse, call.args), strict=False))
    return values | given | {word.arg: ast.unparse(word.value) for word in call.keywords if word.arg is not None}


def step_size(recipe: str) -> str | None:
    """How long a step of the inner attack is, in input units and in eps; None where there is none, or it is not known.

    >>> step_size("pgd_at(eps=0.1, steps=5)")
    '0.05 in input units (0.5 eps)'
    """
    values = arguments(recipe)
    share = _share(recipe.partition("(")[0].strip(), values)
    if share is None:
        return None
    eps = _number(values.get("eps", ""))
    if eps is None or values.get("sets", "()") != "()":  # drawn, or one for each set
        return f"{number(share)} eps"
    return f"{number(share * eps)} in input units ({number(share)} eps)"


def _share(name: str, values: dict[str, str]) -> float | None:
    """The step in units of eps."""
    if name in ("n_fgsm", "free") or values.get("attack_by", "").startswith(_ONE_STEP):
        return 1.0
    if "relative_step_size" not in values:
        return None
    share, steps = _number(values["relative_step_size"]), _number(values.get("steps", "1"))
    if share is None and steps:  # as `pgd` has it
        share = (5.0 if values.get("norm") == "'L2'" else 2.5) / steps
    stretch = _number(values.get("stretch", "1"))
    return None if share is None or stretch is None else share * stretch


@cache
def _classes() -> dict[str, ast.ClassDef]:
    """The classes of the room's optimisers and recipes, by name."""
    found: dict[str, ast.ClassDef] = {}
    for path in (_ROOM / "optimisers.py", *sorted((_ROOM / "recipes").glob("*.py"))):
        if path.is_file():
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found |= {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    return found


def _defaults(name: str) -> dict[str, str]:
    """Fields with their defaults in the order of a dataclass: those of its bases first."""
    node = _classes().get(name)
    if node is None:
        return {}
    values: dict[str, str] = {}
    for base in reversed(node.bases):
        values |= _defaults(base.id) if isinstance(base, ast.Name) else {}
    for line in node.body:
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name) or line.value is None:
            continue
        if "ClassVar" not in ast.unparse(line.annotation):
            values[line.target.id] = ast.unparse(line.value)
    return values


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _number(text: str) -> float | None:
    """A number, or a sum, product or quotient of numbers, such as 8/255."""
    return _value(_parsed(text))


def _value(node: ast.expr | None) -> float | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        one, other = _value(node.left), _value(node.right)
        if one is None or other is None or (isinstance(node.op, ast.Div) and not other):
            return None
        return _OPERATIONS[type(node.op)](one, other)
    return None
