"""The register: names, kinds, lazy rooms, and errors that list what is allowed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from potemkin.core import registry as module
from potemkin.core.canonical import Noted
from potemkin.core.registry import Registry
from potemkin.errors import ConfigError


@dataclass(frozen=True, repr=False)
class Ball(Noted):
    """A ball.

    More about it.
    """

    eps: float
    centre: tuple[float, ...] = (8 / 255, 0.5)


@dataclass(frozen=True)
class Silent:
    size: int = 3


def search(steps: int = 40, *parts: object, inside: Ball | None = None, **more: object) -> Silent:
    """Searches."""
    return Silent(steps)


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.register("set")(Ball)
    made.register("attack")(search)
    made.register("part", name="quiet")(Silent)
    return made


@pytest.fixture
def temporary() -> Iterator[str]:
    """A name in the package's own register, taken out again."""
    yield "a_name_for_this_test"
    module.default_registry()._entries.pop("a_name_for_this_test", None)


def test_register_returns_what_it_was_given() -> None:
    made = Registry()
    assert made.register("set")(Ball) is Ball
    assert made.register("attack")(search) is search


def test_entries_say_what_there_is(registry: Registry) -> None:
    assert [(e.name, e.kind, e.summary) for e in registry.entries()] == [
        ("Ball", "set", "A ball."),
        ("quiet", "part", ""),
        ("search", "attack", "Searches."),
    ]
    assert [e.name for e in registry.entries("set")] == ["Ball"]
    assert registry.entries("goal") == []
    assert registry.lookup("Ball").factory is Ball
    assert registry.find("Bal") is None


def test_signatures_are_in_the_notation(registry: Registry) -> None:
    assert registry.lookup("Ball").usage == "Ball(eps, centre=(8/255, 0.5))"
    assert registry.lookup("search").usage == "search(steps=40, *parts, inside=None, **more)"
    assert registry.lookup("quiet").signature == "(size=3)"
    registry.register("data", name="biggest")(max)
    assert registry.lookup("biggest").signature == "(...)"


def test_the_summary_may_be_given(registry: Registry) -> None:
    registry.register("part", name="loud", summary="Makes noise.")(type("Loud", (), {}))
    assert registry.lookup("loud").summary == "Makes noise."


def test_the_registered_name_is_the_one_shown() -> None:
    @dataclass(frozen=True, repr=False)
    class Inner(Noted):
        size: int = 1

    assert repr(Inner(2)) == "Inner(size=2)"
    made = Registry()
    made.register("model", name="no-python-name")(Inner)
    assert repr(Inner(2)) == "Inner(size=2)"
    made.register("part", name="inner")(Inner)
    assert repr(Inner(2)) == "inner(size=2)"
    made.register("part", name="alias")(Inner)
    assert repr(Inner(2)) == "inner(size=2)", "a second name is another way in, not another way out"


def test_a_taken_name_is_refused(registry: Registry) -> None:
    with pytest.raises(ConfigError, match=r"The name 'Ball' is taken: set .*test_registry\.Ball; register it under"):
        registry.register("part", name="Ball")(Silent)
    assert registry.lookup("Ball").factory is Ball
    registry.register("set")(Ball)


def test_unknown_kinds_are_refused(registry: Registry) -> None:
    for call in (registry.register, registry.entries, lambda kind: registry.lookup("Ball", kind)):
        with pytest.raises(
            ConfigError, match=r"There is no kind 'sets'\. Did you mean 'set'\? Kinds: attack, set, goal"
        ):
            call("sets")


def test_lookup_lists_what_is_allowed(registry: Registry) -> None:
    with pytest.raises(ConfigError, match=r"no registered name 'Bal'\. Did you mean 'Ball'\? Allowed: Ball, quiet, se"):
        registry.lookup("Bal")
    with pytest.raises(ConfigError, match=r"There is no attack 'Ball2'\. Allowed: search\."):
        registry.lookup("Ball2", "attack")
    with pytest.raises(
        ConfigError, match=r"'Ball' is a set, but an attack or part is wanted here\. Allowed: quiet, se"
    ):
        registry.lookup("Ball", ("attack", "part"))
    with pytest.raises(ConfigError, match=r"There is no goal 'x'\. None is registered\."):
        registry.lookup("x", "goal")
    assert registry.lookup("Ball", ("attack", "set")).name == "Ball"


def test_modules_are_imported_at_the_first_look_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "room_of_this_test.py").write_text(
        "import builtins\nbuiltins.rooms_loaded = getattr(builtins, 'rooms_loaded', 0) + 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import builtins

    monkeypatch.setattr(builtins, "rooms_loaded", 0, raising=False)
    made = Registry(("room_of_this_test",))
    made.register("set")(Ball)
    assert made.find("Ball") is not None
    assert builtins.rooms_loaded == 0, "a name that is known needs no import"  # type: ignore[attr-defined]
    made.entries("set")
    made.find("other")
    assert builtins.rooms_loaded == 1  # type: ignore[attr-defined]
    sys.modules.pop("room_of_this_test")


def test_a_room_that_does_not_import_says_so_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_room_of_this_test.py").write_text("import a_module_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    made = Registry(("broken_room_of_this_test",))
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has"):
            made.entries()


def test_the_packages_own_register(temporary: str) -> None:
    assert module.find(temporary) is None
    module.register("part", name=temporary)(Silent)
    assert module.lookup(temporary, "part").factory is Silent
    assert temporary in [e.name for e in module.entries("part")]


def test_every_builtin_entry_has_a_summary() -> None:
    for kind in module.KINDS:
        found = module.entries(kind)
        assert found, f"no {kind} is registered"
        for entry in found:
            assert entry.summary, f"{entry.usage} has no docstring, so `potemkin list` has nothing to say"
            assert len(entry.summary) <= 150, entry.name


def test_importing_the_register_loads_no_room_and_no_torch() -> None:
    code = (
        "import sys, potemkin.core.registry, potemkin.core.notation, potemkin.core.checks\n"
        "rooms = ('torch', 'numpy', 'potemkin.threat', 'potemkin.attacks', 'potemkin.data', 'potemkin.models')\n"
        "print([room for room in rooms if room in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
