"""Several processes write into one folder: each leaves a whole bundle or nothing, and none touches another's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bundles import line_of, record_of
from potemkin.errors import BundleError
from potemkin.evaluate import locks
from potemkin.evaluate.bundle import BundleWriter, read_bundle

FILES = {"record.json", "examples.jsonl", "adversarials.safetensors"}
SHAPE = (2, 2)

# One run: says "open" when it has begun, and "moving" at each file that it moves into place when told to be slow.
RUN = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
import numpy as np
from bundles import line_of, record_of
from potemkin.evaluate.bundle import BundleWriter

folder, seed, slow = sys.argv[2], int(sys.argv[3]), sys.argv[4] == "slow"
replace = os.replace
def slowly(*paths):
    print("moving", flush=True)
    time.sleep(0.4)
    replace(*paths)
if slow:
    os.replace = slowly
with BundleWriter(folder, input_shape=(2, 2), overwrite=True) as writer:
    print("open", flush=True)
    sys.stdin.readline()
    rng = np.random.default_rng(seed)
    outcomes = ["broken", "held", "clean_wrong"] * (seed + 1)
    lines = [writer.add(line_of(i, name, rng), np.full((2, 2), seed, np.float32) if name == "broken" else None)
             for i, name in enumerate(outcomes)]
    print("added", flush=True)
    sys.stdin.readline()
    writer.finish(record_of(lines, (2, 2), seed=seed))
print("done", flush=True)
"""


class Run:
    """A run in a process of its own, led step by step."""

    def __init__(self, folder: Path, seed: int, slow: bool = False) -> None:
        tests = str(Path(__file__).parents[2])
        words = [sys.executable, "-c", RUN, tests, str(folder), str(seed), "slow" if slow else "quick"]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.says("open")

    def says(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{word}\n"

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def add(self) -> None:
        self.go()
        self.says("added")

    def end(self) -> None:
        self.go()
        self.says("done")
        assert self.process.wait(60) == 0


Start = Callable[..., Run]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start runs into one folder; none outlives the test."""
    runs: list[Run] = []

    def started(seed: int, slow: bool = False) -> Run:
        runs.append(Run(tmp_path / "run", seed, slow))
        return runs[-1]

    yield started
    for run in runs:
        run.process.kill()
        run.process.communicate()


def check_whole(folder: Path, seed: int) -> None:
    """The folder holds the bundle of this run, all of it; read_bundle compares the files with each other."""
    bundle = read_bundle(folder)
    assert (bundle.record.seed, bundle.record.n) == (seed, 3 * (seed + 1))
    assert np.array_equal(bundle.tensor("inputs"), np.full((seed + 1, *SHAPE), seed, np.float32))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_runs_side_by_side_each_leave_a_whole_bundle(tmp_path: Path, start: Start, order: tuple[int, int]) -> None:
    runs = [start(1), start(2)]
    assert len([name for name in names(tmp_path / "run") if name.startswith(".potemkin-partial-")]) == 2
    for run in runs:
        run.add()
    for number in order:
        runs[number].end()
        check_whole(tmp_path / "run", seed=number + 1)
    assert names(tmp_path / "run") == FILES


def test_two_that_end_together_do_not_mix(tmp_path: Path, start: Start) -> None:
    """The first is held up between its files; the second, which ends meanwhile, waits for it and wins."""
    first, second = start(1, slow=True), start(2)
    first.add()
    second.add()
    first.go()
    first.says("moving")
    second.end()
    assert first.process.wait(60) == 0
    check_whole(tmp_path / "run", seed=2)
    assert names(tmp_path / "run") == FILES


def test_a_run_that_fails_leaves_the_other_alone(tmp_path: Path, start: Start) -> None:
    other = start(1)
    with pytest.raises(KeyError), BundleWriter(tmp_path / "run", input_shape=SHAPE, overwrite=True):
        raise KeyError("the evaluation failed")
    other.add()
    other.end()
    check_whole(tmp_path / "run", seed=1)


def test_what_a_killed_run_left_is_removed_and_what_lives_is_not(tmp_path: Path, start: Start) -> None:
    alive, killed = start(1), start(2)
    [of_the_living] = [path for path in (tmp_path / "run").iterdir() if f"-{alive.process.pid}-" in path.name]
    killed.add()
    killed.process.kill()
    killed.process.wait(60)
    assert len(names(tmp_path / "run")) == 2, "killed without warning: nothing could be tidied up"
    with pytest.raises(BundleError, match=r"no record\.json.*\.potemkin-partial-.*still writing into it or was killed"):
        read_bundle(tmp_path / "run")
    writer = BundleWriter(tmp_path / "run", input_shape=SHAPE, overwrite=True)
    assert of_the_living.exists() and len(names(tmp_path / "run")) == 2
    writer.abort()
    alive.add()
    alive.end()
    check_whole(tmp_path / "run", seed=1)
    assert names(tmp_path / "run") == FILES


def test_a_run_under_way_is_told_from_one_that_was_killed(tmp_path: Path, start: Start) -> None:
    """Without `overwrite` a living run is in the way; what a dead one left is nobody's bundle, and is not."""
    run = start(1)
    with pytest.raises(BundleError, match=r"being written to by another run.*--overwrite"):
        BundleWriter(tmp_path / "run", input_shape=SHAPE)
    run.process.kill()
    run.process.wait(60)
    with BundleWriter(tmp_path / "run", input_shape=SHAPE) as writer:
        lines = [writer.add(line_of(0, "held", np.random.default_rng(0)))]
        writer.finish(record_of(lines, SHAPE))
    assert names(tmp_path / "run") == FILES


@pytest.mark.parametrize("overwrite", [False, True])
def test_where_nobody_can_tell_nothing_is_removed(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    """A file system without locks: the folder is named, and it is the user who decides."""
    killed = start(1)
    killed.process.kill()
    killed.process.wait(60)
    [left] = (tmp_path / "run").iterdir()
    monkeypatch.setattr(locks, "_lock", lambda file, wait: None)
    with pytest.raises(BundleError, match=f"{left}.*Remove it if no run is writing there"):
        BundleWriter(tmp_path / "run", input_shape=SHAPE, overwrite=overwrite)
    assert left.exists() and names(tmp_path / "run") == {left.name}


def test_without_locks_a_single_run_is_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_lock", lambda file, wait: None)
    for overwrite in (False, True):
        with BundleWriter(tmp_path / "run", input_shape=SHAPE, overwrite=overwrite) as writer:
            lines = [writer.add(line_of(0, "held", np.random.default_rng(0)))]
            writer.finish(record_of(lines, SHAPE))
        assert names(tmp_path / "run") == FILES


def test_a_lock_is_let_go_of_by_a_process_that_dies(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from potemkin.evaluate.locks import hold
file = hold(Path(sys.argv[1]))
print(1, flush=True)
sys.stdin.read()
"""
    path = tmp_path / "lock"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "1\n"
    assert locks.state(path) == "held"
    process.kill()
    process.communicate()
    assert locks.state(path) == "free"
    assert locks.state(tmp_path / "missing") == "unknown"
    with pytest.raises(FileExistsError):
        locks.hold(path)


AGAIN_AND_AGAIN = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from bundles import line_of, record_of
from potemkin.evaluate.bundle import BundleWriter

seed = int(sys.argv[3])
for number in range(30):
    with BundleWriter(sys.argv[2], input_shape=(2, 2), overwrite=True) as writer:
        rng = np.random.default_rng(seed)
        lines = [writer.add(line_of(i, "broken", rng), np.full((2, 2), seed, np.float32)) for i in range(3 * seed + 3)]
        if number % 7 != 3:
            writer.finish(record_of(lines, (2, 2), seed=seed))
"""


def test_beginning_ending_and_giving_up_at_any_moment(tmp_path: Path) -> None:
    """Two processes, thirty runs each, some abandoned: none is ever in another's way."""
    words = [sys.executable, "-c", AGAIN_AND_AGAIN, str(Path(__file__).parents[2]), str(tmp_path / "run")]
    both = [subprocess.Popen([*words, str(seed)], stderr=subprocess.PIPE, text=True) for seed in (1, 2)]
    problems = [process.communicate(timeout=120)[1] for process in both]
    assert problems == ["", ""]
    bundle = read_bundle(tmp_path / "run")
    assert bundle.record.n == 3 * bundle.record.seed + 3
    assert (bundle.tensor("inputs") == bundle.record.seed).all()
    assert names(tmp_path / "run") == FILES
