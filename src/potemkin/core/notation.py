"""Text as objects: the notation of recipes, sets and threat models, read by a walk over the syntax tree, no `eval`.

What may stand in it: numbers with + - * / **, strings, True, False, None, inf, tuples, lists, and registered names,
bare or called with arguments. `show` writes it (see `canonical`), and parse(show(a)) == a.
"""

from __future__ import annotations

import ast
import inspect
import math
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeAlias

from potemkin.core.canonical import Noted, default_text, show
from potemkin.core.registry import Entry, Registry, as_kinds, default_registry, said_kinds, with_article
from potemkin.errors import ConfigError, suggest

__all__ = ["Noted", "parse", "show"]

MAX_LENGTH = 20_000
MAX_DEPTH = 40
MAX_EXPONENT = 64
MAX_BITS = 512

Number: TypeAlias = int | float

_ALLOWED = (
    "Allowed: numbers with + - * / **, strings, True, False, None, inf, tuples, lists, and registered names with "
    "arguments, such as pgd(steps=50) or Linf(8/255)."
)
_OPERATIONS: dict[type[ast.operator], Callable[[Number, Number], object]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_SAID = {
    ast.Attribute: "access to an attribute",
    ast.Lambda: "a lambda",
    ast.JoinedStr: "an f-string",
    ast.Starred: "an argument with a star",
    ast.NamedExpr: "an assignment",
    ast.Subscript: "an index",
    ast.Compare: "a comparison",
    ast.BoolOp: "a logical operator",
    ast.IfExp: "a condition",
    ast.Dict: "a dictionary",
    ast.Set: "a set in braces",
    ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
}


def parse(text: str, registry: Registry | None = None, kind: str | Sequence[str] | None = None) -> object:
    """Read an object from its notation; with `kind`, only a name of that kind (or of one of several) may stand there.

    A bare registered name is a call without arguments: "pgd" is "pgd()". Whatever is wrong with the text is a
    ConfigError that shows the text, the place and what is allowed there. At most 20,000 characters, 40 levels deep.

    >>> parse("(8/255, -2**3, [None, 'a'])") == (8 / 255, -8, [None, "a"])
    True
    """
    registry = default_registry() if registry is None else registry
    kinds = as_kinds(kind)
    if not isinstance(text, str):
        raise ConfigError(f"The notation must be a string, found {text!r}. {_ALLOWED}")
    reader = _Reader(text.strip(), registry, kinds)
    if not reader.text:
        reader.fail(None, f"it is empty; {with_article(said_kinds(kinds))} is wanted.")
    if len(reader.text) > MAX_LENGTH:
        reader.fail(None, f"it has {len(reader.text)} characters, at most {MAX_LENGTH} are allowed.")
    # A name such as digits-cnn is no Python name; the tree would hold a difference.
    entry = registry.find(reader.text)
    return reader.root(None if entry is not None else reader.tree(), entry)


class _Reader:
    """One text on its way to an object."""

    def __init__(self, text: str, registry: Registry, kinds: tuple[str, ...]) -> None:
        self.text, self.registry, self.kinds = text, registry, kinds

    def fail(self, node: ast.AST | None, why: str, cause: BaseException | None = None) -> NoReturn:
        place = ""
        if isinstance(node, (ast.expr, ast.keyword)):
            piece = ast.get_source_segment(self.text, node) or ""
            before = self.text.splitlines()[node.lineno - 1].encode()[: node.col_offset].decode()
            line = f"line {node.lineno}, " if node.lineno > 1 else ""
            place = f" at {line}character {len(before) + 1}"
            place += f", {_short(piece)!r}" if piece != self.text else ""
        raise ConfigError(f"Cannot read the notation {_short(self.text)!r}{place}: {why}") from cause

    def tree(self) -> ast.expr:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about odd escapes in strings
                return ast.parse(self.text, mode="eval").body
        except SyntaxError as error:
            at = f" (near character {error.offset})" if error.offset else ""
            self.fail(None, f"{error.msg}{at}. {_ALLOWED}", error)
        except (ValueError, RecursionError, MemoryError) as error:
            self.fail(None, f"it is nested too deeply or holds what no notation can ({error}). {_ALLOWED}", error)

    def root(self, node: ast.expr | None, entry: Entry | None) -> object:
        """The whole text: here the wanted kind is enforced, before anything is made."""
        called = node.func if isinstance(node, ast.Call) else node
        if isinstance(called, ast.Name) and called.id not in ("inf", "nan"):
            entry = self.entry(called, self.kinds)
        if entry is not None and self.kinds and entry.kind not in self.kinds:
            self.fail(None, self.other_kind(entry))
        if node is None:
            assert entry is not None
            return self.made(entry, None, [], {})
        if self.kinds and entry is None:
            value = self.value(node, 1)
            self.fail(None, f"it is {default_text(value)}, but {self.wanted()}")
        return self.value(node, 1)

    def wanted(self) -> str:
        names = [e.name for e in self.registry.entries() if e.kind in self.kinds]
        return f"{with_article(said_kinds(self.kinds))} is wanted here. Allowed: {', '.join(names)}."

    def other_kind(self, entry: Entry) -> str:
        return f"'{entry.name}' is {with_article(entry.kind)}, but {self.wanted()}"

    def entry(self, node: ast.Name, kinds: tuple[str, ...] = ()) -> Entry:
        entry = self.registry.find(node.id)
        if entry is None:
            allowed = [e.name for e in self.registry.entries() if not kinds or e.kind in kinds]
            listed = ", ".join(allowed) or "none is registered"
            what = said_kinds(kinds)
            self.fail(node, f"there is no {what} '{node.id}'.{suggest(node.id, allowed)} Allowed: {listed}.")
        return entry

    def value(self, node: ast.expr, depth: int) -> object:
        if depth > MAX_DEPTH:
            self.fail(node, f"it is nested more than {MAX_DEPTH} levels deep.")
        match node:
            case ast.Constant():
                return self.constant(node)
            case ast.Tuple():
                return tuple(self.value(item, depth + 1) for item in node.elts)
            case ast.List():
                return [self.value(item, depth + 1) for item in node.elts]
            case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
                number = self.number(node.operand, depth)
                return -number if isinstance(node.op, ast.USub) else number
            case ast.BinOp():
                return self.arithmetic(node, depth)
            case ast.Name(id="inf"):
                return math.inf
            case ast.Name(id="nan"):
                self.fail(node, "nan is refused: it does not equal itself. Pass a number.")
            case ast.Name():
                return self.made(self.entry(node), node, [], {})
            case ast.Call():
                return self.call(node, depth)
        self.fail(node, f"{_SAID.get(type(node), type(node).__name__)} is not part of the notation. {_ALLOWED}")

    def constant(self, node: ast.Constant) -> object:
        value = node.value
        if isinstance(value, float) and math.isinf(value):
            self.fail(node, "the number is too large for float64; write inf if infinity is meant.")
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            self.fail(node, f"the number has more than {MAX_BITS} bits.")
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        self.fail(node, f"{value!r} of type {type(value).__name__} is not part of the notation. {_ALLOWED}")

    def number(self, node: ast.expr, depth: int) -> Number:
        value = self.value(node, depth + 1)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.fail(node, f"arithmetic works on numbers only, found {default_text(value)}.")
        return value

    def arithmetic(self, node: ast.BinOp, depth: int) -> Number:
        operation = _OPERATIONS.get(type(node.op))
        if operation is None:
            self.fail(node, f"the operator {type(node.op).__name__} is not part of the notation. {_ALLOWED}")
        left, right = self.number(node.left, depth), self.number(node.right, depth)
        if math.isinf(left) or math.isinf(right):
            self.fail(node, "arithmetic with inf is refused; write inf or -inf alone.")
        if isinstance(node.op, ast.Pow) and abs(right) > MAX_EXPONENT:
            self.fail(node, f"exponents must lie from -{MAX_EXPONENT} to {MAX_EXPONENT}, found {right}.")
        try:
            result = operation(left, right)
        except ArithmeticError as error:
            self.fail(node, f"{error}.", error)
        if isinstance(result, int) and result.bit_length() <= MAX_BITS:
            return result
        if isinstance(result, float) and math.isfinite(result):
            return result
        self.fail(node, "the result is no real number of reasonable size.")

    def call(self, node: ast.Call, depth: int) -> object:
        if not isinstance(node.func, ast.Name):
            what = _SAID.get(type(node.func), "this")
            self.fail(node.func, f"only registered names can be called, not {what}. {_ALLOWED}")
        entry = self.entry(node.func)
        positional = [self.value(item, depth + 1) for item in node.args]
        named: dict[str, object] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                self.fail(keyword, f"an argument with two stars is not part of the notation. {_ALLOWED}")
            if keyword.arg in named:
                self.fail(keyword, f"the argument '{keyword.arg}' is given twice.")
            named[keyword.arg] = self.value(keyword.value, depth + 1)
        return self.made(entry, node, positional, named)

    def made(self, entry: Entry, node: ast.expr | None, positional: list[object], named: dict[str, object]) -> object:
        """Call the factory; what it refuses becomes a ConfigError with the values in it."""
        self.check_arguments(entry, node, positional, named)
        try:
            return entry.factory(*positional, **named)
        except ConfigError as error:
            self.fail(node, str(error), error)
        except (TypeError, ValueError, AttributeError, ArithmeticError, LookupError) as error:
            given = [default_text(v) for v in positional] + [f"{k}={default_text(v)}" for k, v in named.items()]
            said = f"{entry.name}({', '.join(given)})"
            self.fail(node, f"{said} was refused: {error}. It takes {entry.usage}.", error)

    def check_arguments(
        self, entry: Entry, node: ast.expr | None, positional: list[object], named: dict[str, object]
    ) -> None:
        try:
            signature = inspect.signature(entry.factory)
        except ValueError:
            return  # a factory in C without a signature: its own TypeError will say
        parameters = signature.parameters.values()
        keywords = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            for name in named:
                if name not in keywords:
                    hint = suggest(name, keywords)
                    given = (
                        next((k for k in node.keywords if k.arg == name), None) if isinstance(node, ast.Call) else None
                    )
                    self.fail(given, f"{entry.name} has no argument '{name}'.{hint} It takes {entry.usage}.")
        try:
            signature.bind(*positional, **named)
        except TypeError as error:
            self.fail(node, f"{entry.name}: {error}. It takes {entry.usage}.", error)


def _short(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else f"{text[: limit - 20]} … {text[-17:]}"
