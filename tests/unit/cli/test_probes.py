"""The doctor's probes: each says what it found, and how to get what is missing."""

from __future__ import annotations

import importlib.metadata

import pytest

from potemkin.cli import probes


def named(name: str) -> probes.Finding:
    return next(finding for finding in probes.examine() if finding.name == name)


def test_requirements_come_from_the_package_itself() -> None:
    assert {"torch", "numpy", "cyclopts", "jinja2"} <= set(probes._required(None))
    assert probes._required("vision") == ["torchvision"]
    assert "torchvision" not in probes._required(None)
    assert set(probes.EXTRAS) == set(importlib.metadata.metadata(probes.DISTRIBUTION).get_all("Provides-Extra") or [])


def test_a_checkout_that_was_never_installed_still_has_requirements(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = probes._required(None)
    monkeypatch.setattr(probes, "DISTRIBUTION", "no-such-distribution")
    assert sorted(probes._required(None)) == sorted(installed)
    assert probes._required("vision") == []


def test_a_missing_package_is_broken_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_required", lambda extra: ["no-such-package"])
    found = named("no-such-package")
    assert (found.state, found.advice) == ("broken", "pip install no-such-package")
    extra = named("[vision]")
    assert (extra.state, extra.advice) == ("missing", "pip install 'potemkin-ml[vision]'")


def test_the_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    found = named("torch.compile")
    assert found.state == "missing" and "no-such-compiler" in found.found
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = named("torch.compile")
    assert found.state == "missing" and "g++" in found.advice


@pytest.mark.parametrize(
    ("cores", "threads", "told"), [(1, 1, "1 core; PyTorch uses 1 thread"), (8, 4, "8 cores; PyTorch uses 4 threads")]
)
def test_one_is_not_many(cores: int, threads: int, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    assert named("cpu").found == told


def test_threads_that_are_held_back_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "OMP_NUM_THREADS=1" in named("cpu").advice
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert named("cpu").advice == ""
