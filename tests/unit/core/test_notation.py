"""Notation: what it says, what it reads, and a sentence for everything that it refuses."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

import pytest
import torch

from potemkin.core import checks
from potemkin.core.canonical import Noted
from potemkin.core.notation import parse, show
from potemkin.core.registry import Registry
from potemkin.errors import ConfigError, DataError

MADE: list[str] = []


@dataclass(frozen=True, repr=False)
class Ball(Noted):
    """A ball."""

    eps: float
    name: str = "b"

    def __post_init__(self) -> None:
        checks.number("eps", self.eps, low=0)


@dataclass(frozen=True, repr=False)
class climb(Noted):
    """An attack."""

    steps: int = 40
    restarts: int = 1
    step_size: float | None = None
    parts: tuple[object, ...] = ()
    inside: Ball = field(default_factory=lambda: Ball(0.5))
    found: int = field(default=0, init=False, compare=False)

    def __post_init__(self) -> None:
        MADE.append("climb")
        object.__setattr__(self, "found", self.restarts + 1)
        if self.steps < 1:
            raise ValueError("too few steps")


@dataclass(frozen=True)
class Unchecked:
    """A part with no checks."""

    value: object = None


def halved(value: float) -> Unchecked:
    """A function that returns a part."""
    return Unchecked(value / 2)


def only_position(value: float, /) -> Unchecked:
    """Takes its argument by position."""
    return Unchecked(value)


def data() -> Unchecked:
    """Data that are not there."""
    raise DataError("the file is gone")


@pytest.fixture(scope="module")
def registry() -> Registry:
    made = Registry()
    made.register("set")(Ball)
    made.register("attack")(climb)
    made.register("part")(Unchecked)
    made.register("part")(halved)
    made.register("part")(only_position)
    made.register("data", name="far-away")(data)
    made.register("model", name="digits-cnn")(Unchecked)
    return made


SHOWN: list[tuple[object, str]] = [
    (None, "None"),
    (True, "True"),
    (-3, "-3"),
    (0.1, "0.1"),
    (1.0, "1.0"),
    (0.0, "0.0"),
    (-0.0, "-0.0"),
    (1e-12, "1e-12"),
    (8 / 255, "8/255"),
    (1 / 255, "1/255"),
    (254 / 255, "254/255"),
    (51 / 255, "0.2"),  # the shorter form wins
    (math.nextafter(8 / 255, 1), repr(math.nextafter(8 / 255, 1))),
    (256 / 255, repr(256 / 255)),
    (math.inf, "inf"),
    (-math.inf, "-inf"),
    ('it\'s "ü" \n', "'it\\'s \"ü\" \\n'"),
    ((), "()"),
    ((1,), "(1,)"),
    ([1, (2.0, None)], "[1, (2.0, None)]"),
    (Ball(8 / 255), "Ball(8/255)"),
    (Ball(0.1, name="c"), "Ball(0.1, name='c')"),
    (climb(), "climb()"),
    (climb(steps=50, restarts=5), "climb(steps=50, restarts=5)"),
    (climb(restarts=True), "climb(restarts=True)"),
    (climb(restarts=1.0), "climb(restarts=1.0)"),  # type: ignore[arg-type]
    (climb(inside=Ball(0.5)), "climb()"),
    (climb(inside=Ball(1)), "climb(inside=Ball(1))"),
    (climb(parts=(Ball(0.1), Unchecked([]))), "climb(parts=(Ball(0.1), Unchecked(value=[])))"),
]


@pytest.mark.parametrize(("obj", "text"), SHOWN)
def test_show_and_back(obj: object, text: str, registry: Registry) -> None:
    assert show(obj) == text
    again = parse(text, registry)
    assert again == obj
    assert type(again) is type(obj)
    assert show(again) == text


@pytest.mark.parametrize("value", [math.nan, torch.zeros(2), {"a": 1}, 1j, b"a", Ball, climb(parts=({1},))])
def test_show_refuses_what_parse_could_not_read(value: object) -> None:
    with pytest.raises(ConfigError, match=r"has no notation"):
        show(value)


def test_repr_never_fails_and_never_lies() -> None:
    assert repr(climb(parts=(torch.zeros(2), math.nan))) == "climb(parts=(<Tensor>, <nan>))"


READ: list[tuple[str, object]] = [
    ("8/255", 8 / 255),
    (" -8/255 ", -8 / 255),
    ("+3", 3),
    ("2**-3", 0.125),
    ("-2**2", -4),
    ("(1 + 2) * 3 - 4.5", 4.5),
    ("--3", 3),
    ("-inf", -math.inf),
    ("[1, [2]]", [1, [2]]),
    ("(1)", 1),
    ("'a' 'b'", "ab"),
    ("climb", climb()),
    ("climb()", climb()),
    ("climb(50)", climb(50)),
    ("climb(50, restarts=2 + 3)", climb(50, 5)),
    ("climb(\n  steps=2,\n)", climb(2)),
    ("climb(inside=Ball(1/255, name='ü'))", climb(inside=Ball(1 / 255, "ü"))),
    ("climb(parts=[Unchecked, halved(3)])", climb(parts=[Unchecked(), Unchecked(1.5)])),  # type: ignore[arg-type]
    ("only_position(3)", Unchecked(3)),
    ("digits-cnn", Unchecked()),
]


@pytest.mark.parametrize(("text", "value"), READ)
def test_parse(text: str, value: object, registry: Registry) -> None:
    found = parse(text, registry)
    assert found == value
    assert type(found) is type(value)


def test_the_wanted_kind_is_accepted(registry: Registry) -> None:
    assert parse("climb(3)", registry, kind="attack") == climb(3)
    assert parse("Ball(1)", registry, kind=("set", "attack")) == Ball(1)
    assert parse("climb(inside=Ball(1))", registry, kind="attack") == climb(inside=Ball(1))
    assert parse("digits-cnn", registry, kind="model") == Unchecked()


# text, the wanted kind, and pieces of the message; every message shows the text and says what would do
BAD: list[tuple[str, str | None, tuple[str, ...]]] = [
    ("", "attack", ("it is empty; an attack is wanted",)),
    ("   ", None, ("it is empty",)),
    ("clmb(3)", None, ("no registered name 'clmb'. Did you mean 'climb'?", "Allowed: Ball, climb, digits-cnn")),
    ("clmb(3)", "attack", ("there is no attack 'clmb'. Did you mean 'climb'? Allowed: climb.", "'clmb'")),
    ("nothing", "set", ("there is no set 'nothing'", "Allowed: Ball.")),
    ("Ball(0.1)", "attack", ("'Ball' is a set, but an attack is wanted here. Allowed: climb.",)),
    ("digits-cnn", "attack", ("'digits-cnn' is a model, but an attack is wanted here",)),
    ("0.1", "set", ("it is 0.1, but a set is wanted here. Allowed: Ball.",)),
    ("(Ball(0.1),)", "set", ("it is (Ball(0.1),), but a set is wanted here",)),
    ("climb(stpes=3)", "attack", ("'stpes=3': climb has no argument 'stpes'. Did you mean 'steps'? It takes climb(",)),
    ("climb(1, 2, 3, (), Ball(1), 6)", "attack", ("climb: too many positional arguments", "It takes climb(steps=40")),
    ("Ball()", "set", ("Ball: missing a required argument: 'eps'. It takes Ball(eps, name='b')",)),
    ("Ball", "set", ("missing a required argument: 'eps'",)),
    ("climb(3, steps=4)", None, ("climb: multiple values for argument 'steps'",)),
    ("climb(steps=3, steps=4)", None, ("the argument 'steps' is given twice", "character 16", "'steps=4'")),
    ("only_position(value=3)", None, ("only_position has no argument 'value'",)),
    ("Ball('8/255')", "set", ("eps must be a number at least 0; found '8/255', which is a string",)),
    ("Ball(-1)", "set", ("eps must be a number at least 0; found -1",)),
    ("climb(inside=Ball(-1))", None, ("at character 14, 'Ball(-1)': eps must be a number at least 0; found -1",)),
    ("climb(steps=0)", None, ("climb(steps=0) was refused: too few steps",)),
    ("climb(steps='a')", None, ("climb(steps='a') was refused: '<' not supported", "It takes climb(steps=40")),
    ("halved('a')", None, ("halved('a') was refused: unsupported operand",)),
    ("halved(1, 0)", None, ("halved: too many positional arguments",)),
    ("climb.steps", None, ("access to an attribute is not part of the notation. Allowed: numbers",)),
    ("climb().steps", "attack", ("access to an attribute",)),
    ("climb.__class__()", None, ("only registered names can be called, not access to an attribute",)),
    ("(lambda: 3)()", None, ("only registered names can be called, not a lambda",)),
    ("climb(steps=lambda: 3)", None, ("a lambda is not part of the notation",)),
    ("climb()()", None, ("only registered names can be called, not this",)),
    ("[x for x in (1, 2)]", None, ("a comprehension is not part",)),
    ("climb(i for i in (1,))", None, ("a comprehension is not part",)),
    ("{i: i for i in (1,)}", None, ("a comprehension is not part",)),
    ("f'{climb}'", None, ("an f-string is not part",)),
    ("__import__('os')", None, ("there is no registered name '__import__'",)),
    ("eval('1')", None, ("there is no registered name 'eval'",)),
    ("import os", None, ("invalid syntax",)),
    ("climb(); climb()", None, ("invalid syntax",)),
    ("climb(steps=", None, ("was never closed",)),
    ("climb(3", "attack", ("was never closed (near character 6)",)),
    ("climb)", None, ("unmatched ')'",)),
    ("9**9**9", None, ("exponents must lie from -64 to 64, found 387420489",)),
    ("2**-65", None, ("exponents must lie from -64 to 64, found -65",)),
    ("2**64**0.5**-9", None, ("exponents must lie",)),
    ("(10**64)**64", None, ("no real number of reasonable size",)),
    ("(-8)**0.5", None, ("no real number",)),
    ("1" + "0" * 400, None, ("the number has more than 512 bits",)),
    ("9" * 5000, None, ("",)),
    ("1e999", None, ("too large for float64; write inf",)),
    ("1e308*10", None, ("no real number of reasonable size",)),
    ("1e300**2", None, ("Numerical result out of range",)),
    ("1/0", None, ("division by zero",)),
    ("0**-1", None, ("0.0 cannot be raised",)),
    ("10**64/1e-300", None, ("no real number",)),
    ("inf - inf", None, ("arithmetic with inf is refused",)),
    ("nan", None, ("nan is refused",)),
    ("Ball(nan)", None, ("nan is refused",)),
    ("inf()", None, ("no registered name 'inf'",)),
    ("7 // 2", None, ("the operator FloorDiv is not part",)),
    ("7 % 2", None, ("the operator Mod",)),
    ("7 << 2", None, ("the operator LShift",)),
    ("~7", None, ("UnaryOp is not part",)),
    ("not True", None, ("UnaryOp is not part",)),
    ("-True", None, ("arithmetic works on numbers only, found True",)),
    ("'a' * 3", None, ("arithmetic works on numbers only, found 'a'",)),
    ("(1, 2) + (3,)", None, ("arithmetic works on numbers only, found (1, 2)",)),
    ("climb - 1", None, ("arithmetic works on numbers only, found climb()",)),
    ("climb(*(1, 2))", None, ("an argument with a star is not part",)),
    ("climb(**{'steps': 3})", None, ("an argument with two stars",)),
    ("climb(steps := 3)", None, ("an assignment is not part",)),
    ("{'steps': 3}", None, ("a dictionary is not part",)),
    ("{1, 2}", None, ("a set in braces is not part",)),
    ("(1, 2)[0]", None, ("an index is not part",)),
    ("1 < 2", None, ("a comparison is not part",)),
    ("1 and 2", None, ("a logical operator is not part",)),
    ("1 if True else 2", None, ("a condition is not part",)),
    ("2j", None, ("of type complex is not part",)),
    ("b'a'", None, ("of type bytes is not part",)),
    ("...", None, ("of type ellipsis is not part",)),
    ("(" * 250 + "1" + ")" * 250, None, ("too many nested parentheses",)),
    ("[" * 45 + "]" * 45, None, ("nested more than 40 levels deep",)),
    ("[" * 5000 + "]" * 5000, None, ("too many nested parentheses",)),
    ("-" * 60 + "1", None, ("nested more than 40 levels deep",)),
    ("-" * 19_000 + "1", None, ("nested too deeply",)),
    ("+".join("1" * 9_000), None, ("",)),
    ("climb(" * 41 + ")" * 41, None, ("nested more than 40 levels deep",)),
    ("1" + " " * 30_000 + "+ 1", None, ("it has 30004 characters, at most 20000 are allowed",)),
    ("climb(\0)", None, ("",)),
    ("climb('\n')", None, ("unterminated string",)),
    ("climb(\n  Ball(1,\n   nme=3))", None, ("at line 3, character 4, 'nme=3': Ball has no argument 'nme'",)),
    ("climb(inside='ü', parts=ü)", None, ("at character 25, 'ü': there is no registered name 'ü'",)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "pieces"), BAD, ids=range(len(BAD)))
def test_bad_notation(text: str, kind: str | None, pieces: tuple[str, ...], registry: Registry) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, registry, kind)
    message = str(caught.value)
    assert message.startswith("Cannot read the notation ")
    for piece in pieces:
        assert piece in message
    assert len(message) < 1200
    start = text.strip()[:20]
    assert repr(start)[1:-1] in message


def test_text_that_is_no_string(registry: Registry) -> None:
    with pytest.raises(ConfigError, match=r"must be a string, found 3\. Allowed: numbers"):
        parse(3, registry)  # type: ignore[arg-type]


def test_nothing_is_made_when_the_kind_is_wrong(registry: Registry) -> None:
    MADE.clear()
    with pytest.raises(ConfigError):
        parse("climb(3)", registry, kind="set")
    with pytest.raises(ConfigError):
        parse("climb", registry, kind="set")
    assert MADE == []
    parse("climb", registry)
    assert MADE == ["climb"]


def test_nothing_is_made_when_an_argument_is_wrong(registry: Registry) -> None:
    MADE.clear()
    with pytest.raises(ConfigError):
        parse("climb(steps=3, nothing=4)", registry)
    assert MADE == []


def test_other_errors_of_ours_pass(registry: Registry) -> None:
    """What data say about themselves is no fault of the notation: the exit code differs."""
    with pytest.raises(DataError, match=r"^the file is gone$"):
        parse("far-away", registry)


def test_the_cause_is_kept_for_the_reader_of_a_traceback(registry: Registry) -> None:
    with pytest.raises(ConfigError) as caught:
        parse("climb(steps='a')", registry)
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_fault_in_a_factory_that_is_no_refusal_passes(registry: Registry) -> None:
    def broken() -> Unchecked:
        raise RuntimeError("a fault of ours")

    registry.register("part", name="broken")(broken)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        parse("broken()", registry)


def test_long_texts_are_shortened_in_the_message(registry: Registry) -> None:
    text = "climb(parts=(" + "1, " * 1000 + "nothing))"
    with pytest.raises(ConfigError) as caught:
        parse(text, registry)
    assert re.search(
        r"climb\(parts=\(1, 1.* … .*nothing\)\)' at character 3014, 'nothing': there is no", str(caught.value)
    )
    assert len(str(caught.value)) < 700
