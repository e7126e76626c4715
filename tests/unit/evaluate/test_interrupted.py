"""Ctrl-C: what is done is kept, but nothing replaces nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

import potemkin as pk
from engine_toys import Ramp, ramp_rows

ROWS = ramp_rows(*[0.3] * 24)


class Stopping(Ramp):
    """The user loses patience at that call."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.left = call

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().forward(x)


@pytest.mark.parametrize("call", [6, 7])
def test_a_run_that_has_done_nothing_leaves_the_bundle_that_was_there(call: int, tmp_path: Path) -> None:
    pk.audit(Ramp(), ROWS, "Linf(0.05)", "fgsm()", out=tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(KeyboardInterrupt):
        pk.audit(Stopping(call), ROWS, "Linf(0.05)", "pgd(steps=10)", rows=8, out=tmp_path / "run", overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_what_is_done_replaces_it(tmp_path: Path) -> None:
    pk.audit(Ramp(), ROWS, "Linf(0.05)", "fgsm()", out=tmp_path / "run")
    stopped = Stopping(20)
    record = pk.audit(stopped, ROWS, "Linf(0.05)", "pgd(steps=10)", rows=8, out=tmp_path / "run", overwrite=True)
    assert not record.complete and 0 < record.n < 24
    assert pk.read_bundle(tmp_path / "run").record.n == record.n


def test_without_an_old_bundle_an_empty_one_says_that_it_was_interrupted(tmp_path: Path) -> None:
    record = pk.audit(Stopping(6), ROWS, "Linf(0.05)", "pgd(steps=10)", rows=8, out=tmp_path / "run")
    assert (record.n, record.why_incomplete) == (0, "interrupted")
    assert pk.read_bundle(tmp_path / "run").record.n == 0
