"""parse(show(a)) == a for nested frozen dataclasses of everything that the notation can say, and no text crashes it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from potemkin.core.canonical import Noted
from potemkin.core.notation import parse, show
from potemkin.core.registry import Registry
from potemkin.errors import ConfigError

REGISTRY = Registry()


@REGISTRY.register("part")
@dataclass(frozen=True, repr=False)
class Leaf(Noted):
    number: float
    text: str = "a"
    flag: bool = True
    maybe: object = None


@REGISTRY.register("attack", name="tree")
@dataclass(frozen=True, repr=False)
class Tree(Noted):
    first: object = 8 / 255
    second: object = field(default_factory=lambda: Leaf(0.5))
    rest: tuple[object, ...] = ()


NUMBERS = st.one_of(
    st.integers(-(2**300), 2**300),
    st.floats(allow_nan=False),
    st.integers(0, 300).map(lambda k: k / 255),
    st.integers(1, 255).map(lambda k: math.nextafter(k / 255, 2.0)),
)
ATOMS = st.one_of(NUMBERS, st.text(st.characters(), max_size=8), st.booleans(), st.none())


def grown(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.builds(Leaf, NUMBERS, st.text(st.characters(), max_size=5), st.booleans(), inner),
        st.builds(Tree, inner, inner, st.lists(inner, max_size=3).map(tuple)),
    )


VALUES = st.recursive(ATOMS, grown, max_leaves=12)


def same(a: object, b: object) -> bool:
    """Equal, and of equal types all the way down: 1 == 1.0 == True is not good enough here."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (Leaf, Tree)):
        return all(map(same, vars(a).values(), vars(b).values()))
    return a == b


@settings(max_examples=400, deadline=None)
@given(VALUES)
def test_round_trip(value: object) -> None:
    text = show(value)
    again = parse(text, REGISTRY)
    assert again == value
    assert same(again, value)
    assert show(again) == text
    assert text.isprintable()


@settings(max_examples=200, deadline=None)
@given(st.builds(Tree, VALUES, VALUES))
def test_repr_is_the_notation(value: Tree) -> None:
    assert repr(value) == show(value)
    assert parse(repr(value), REGISTRY, kind="attack") == value


@settings(max_examples=400, deadline=None)
@given(st.floats(0, 1))
@example(3 / 255)
@example(math.nextafter(3 / 255, 0))
def test_floats_come_back_to_the_last_bit(value: float) -> None:
    again = parse(show(value), REGISTRY)
    assert again == value
    assert isinstance(again, float)


def test_every_grey_level_prints_as_one() -> None:
    for level in range(1, 255):
        text = show(level / 255)
        assert text == f"{level}/255" or (level % 51 == 0 and len(text) == 3)


PIECES = st.sampled_from(
    [
        "Leaf",
        "tree",
        "(",
        ")",
        ",",
        "=",
        "1",
        "-",
        "**",
        "/",
        "first",
        "'",
        "[",
        "]",
        ".",
        " ",
        "inf",
        "lambda",
        ":",
        "\\",
    ]
)


@settings(max_examples=600, deadline=None)
@given(st.one_of(st.lists(PIECES, max_size=25).map("".join), st.text(max_size=40)))
@example("\ud800")
@example("\f1")
@example("'\\N{x}'")
@example("1\r2")
def test_any_text_is_read_or_refused_with_a_sentence(text: str) -> None:
    try:
        parse(text, REGISTRY)
    except ConfigError as error:
        assert str(error).startswith("Cannot read the notation ")
