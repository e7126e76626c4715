"""The bundle: what is written comes back to the bit, a failure leaves nothing behind, damage is found and told."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bundles import line_of, record_of, write_bundle
from potemkin.errors import BundleError
from potemkin.evaluate.bundle import BundleWriter, read_bundle
from potemkin.evaluate.bundle_write import GALLERY_LIMITS

COUNTS = {"held": 9, "broken": 15, "budget": 1, "invalid": 1, "error": 1, "clean_wrong": 3}
FILES = {"record.json", "examples.jsonl", "adversarials.safetensors"}
SHAPE = (1, 8, 8)


def zeros() -> np.ndarray:
    return np.zeros(SHAPE, np.float32)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    record = write_bundle(tmp_path / "run", COUNTS)
    bundle = read_bundle(tmp_path / "run")
    assert bundle.record == record
    assert [line.position for line in bundle.lines] == list(range(30))
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES


def test_tensors_come_back_to_the_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = [rng.normal(size=(3, 5)).astype(np.float32) for _ in range(4)]
    rows[0][0, 0], rows[1][0, 0] = -0.0, np.nextafter(np.float32(0), np.float32(1))
    lines = []
    with BundleWriter(tmp_path / "run", input_shape=(3, 5)) as writer:
        for i, row in enumerate(rows):
            lines.append(writer.add(line_of(i, "broken", rng), row, clean=-row))
        writer.finish(record_of(lines, (3, 5)))
    bundle = read_bundle(tmp_path / "run")
    assert bundle.tensor("inputs").tobytes() == np.stack(rows).tobytes()
    assert bundle.tensor("gallery_clean").tobytes() == (-np.stack(rows)).tobytes()
    assert bundle.tensor("gallery_attempt").tobytes() == np.stack(rows).tobytes()
    assert np.array_equal(bundle.tensor("inputs", 1, 3), np.stack(rows[1:3]))
    assert bundle.tensor("inputs", 4).shape == (0, 3, 5)
    by_the_library = load_file(tmp_path / "run" / "adversarials.safetensors")
    assert by_the_library["inputs"].tobytes() == np.stack(rows).tobytes()


def test_broken_lines_number_their_rows_and_no_others(tmp_path: Path) -> None:
    write_bundle(tmp_path / "run", COUNTS)
    lines = read_bundle(tmp_path / "run").lines
    assert [line.adversarial for line in lines if line.outcome == "broken"] == list(range(15))
    assert all(line.adversarial is None for line in lines if line.outcome != "broken")


def test_nothing_broken_and_nothing_at_all(tmp_path: Path) -> None:
    write_bundle(tmp_path / "held", {"held": 3})
    assert read_bundle(tmp_path / "held").tensor("inputs").shape == (0, *SHAPE)
    write_bundle(tmp_path / "empty", {}, complete=False, why_incomplete="stopped")
    assert read_bundle(tmp_path / "empty").lines == []


def test_the_gallery_is_the_first_of_each_kind(tmp_path: Path) -> None:
    record = write_bundle(tmp_path / "run", COUNTS)
    lines = read_bundle(tmp_path / "run").lines
    for outcome, limit in GALLERY_LIMITS.items():
        first = [line.id for line in lines if line.outcome == outcome][:limit]
        assert [item.id for item in record.gallery if item.outcome == outcome] == first
    assert sorted(item.index for item in record.gallery) == list(range(len(record.gallery)))
    assert {item.outcome for item in record.gallery} == set(GALLERY_LIMITS)


def test_two_equal_runs_write_equal_bytes(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a", COUNTS)
    write_bundle(tmp_path / "b", COUNTS)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_ids_with_line_ends_and_every_script_survive(tmp_path: Path) -> None:
    ids = ["a\nb.png", "c\u2028d", "naïve/日本.png", 'quote".png', "nul\x00"]
    with BundleWriter(tmp_path / "run", input_shape=SHAPE) as writer:
        rng = np.random.default_rng(0)
        lines = [writer.add(line_of(i, "held", rng, id=name)) for i, name in enumerate(ids)]
        writer.finish(record_of(lines, SHAPE))
    assert [line.id for line in read_bundle(tmp_path / "run").lines] == ids


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import numpy as np
from bundles import line_of, record_of
from potemkin.evaluate.bundle import BundleWriter
rng, row, lines = np.random.default_rng(0), np.ones((3, 224, 224), np.float32), []
with BundleWriter({str(tmp_path / "run")!r}, input_shape=row.shape) as writer:
    for i in range(150):
        lines.append(writer.add(line_of(i, "broken", rng), row))
        if i == 20:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    writer.finish(record_of(lines, row.shape))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "adversarials.safetensors").stat().st_size > 90_000_000
    assert int(done.stdout) < 30, "MiB more than after 20 rows"


def test_an_abandoned_run_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), BundleWriter(tmp_path / "deep" / "run", input_shape=SHAPE) as writer:
        writer.add(line_of(0, "held", np.random.default_rng(0)))
        raise KeyError("the evaluation failed")
    assert not (tmp_path / "deep" / "run").exists()


def test_an_abandoned_run_leaves_the_old_bundle_alone(tmp_path: Path) -> None:
    old = write_bundle(tmp_path / "run", COUNTS)
    writer = BundleWriter(tmp_path / "run", input_shape=SHAPE, overwrite=True)
    writer.add(line_of(0, "broken", np.random.default_rng(0)), zeros())
    writer.abort()
    writer.abort()
    assert read_bundle(tmp_path / "run").record == old
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES


def test_an_empty_folder_stays_when_the_run_is_abandoned(tmp_path: Path) -> None:
    BundleWriter(tmp_path, input_shape=SHAPE).abort()
    assert tmp_path.is_dir()
    assert not any(tmp_path.iterdir())


def test_a_failure_while_finishing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the record counts"), BundleWriter(tmp_path / "run", input_shape=SHAPE) as w:
        line = w.add(line_of(0, "held", np.random.default_rng(0)))
        w.finish(record_of([line, line_of(1, "held", np.random.default_rng(0))], SHAPE))
    assert not (tmp_path / "run").exists()


def test_overwriting_replaces_everything_and_drops_the_old_report(tmp_path: Path) -> None:
    write_bundle(tmp_path / "run", COUNTS)
    (tmp_path / "run" / "report.html").write_text("old")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"already holds a bundle.*--overwrite"):
        BundleWriter(tmp_path / "run", input_shape=SHAPE)
    with BundleWriter(tmp_path / "run", input_shape=SHAPE, overwrite=True) as writer:
        lines = [writer.add(line_of(0, "held", np.random.default_rng(0)))]
        writer.finish(record_of(lines, SHAPE))
    assert read_bundle(tmp_path / "run").record.n == 1
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES | {"notes.txt"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_bundle_is_never_touched(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match="it is left alone"):
        BundleWriter(tmp_path, input_shape=SHAPE, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_way_and_a_run_under_way_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="is a file"):
        BundleWriter(tmp_path / "file", input_shape=SHAPE)
    writer = BundleWriter(tmp_path / "run", input_shape=SHAPE)
    with pytest.raises(BundleError, match="being written to"):
        BundleWriter(tmp_path / "run", input_shape=SHAPE)
    with pytest.raises(BundleError, match=r"no record\.json.*still writing"):
        read_bundle(tmp_path / "run")
    writer.abort()


def test_a_full_disk_is_told_in_plain_words(tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path / "run", input_shape=SHAPE)
    writer._spools["inputs"].close()
    writer._spools["inputs"] = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    with pytest.raises(BundleError, match=r"No space left.*disk space"):
        writer.add(line_of(0, "broken", np.random.default_rng(0)), zeros())
    writer.abort()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("outcome", "adversarial", "told"),
    [
        ("broken", None, "belongs to broken"),
        ("held", zeros(), "belongs to broken"),
        ("broken", np.zeros(SHAPE, np.float64), "float64"),
        ("broken", np.zeros((1, 8, 9), np.float32), r"\(1, 8, 9\)"),
    ],
)
def test_a_caller_that_is_wrong_is_stopped(tmp_path: Path, outcome: str, adversarial: np.ndarray, told: str) -> None:
    with (
        pytest.raises(ValueError, match=told),
        BundleWriter(tmp_path / "run", input_shape=SHAPE) as writer,
    ):
        writer.add(line_of(0, outcome, np.random.default_rng(0)), adversarial)


def test_examples_come_in_data_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with BundleWriter(tmp_path / "run", input_shape=SHAPE) as writer:
        writer.add(line_of(4, "held", rng))
        with pytest.raises(ValueError, match="position 4 after 4"):
            writer.add(line_of(4, "held", rng))


def cut(name: str, share: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return damage


def edit_line(number: int, **fields: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        lines = (folder / "examples.jsonl").read_text().splitlines()
        lines[number] = json.dumps(json.loads(lines[number]) | fields)
        (folder / "examples.jsonl").write_text("\n".join(lines) + "\n")

    return damage


def edit_tensors(**changed: np.ndarray) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "adversarials.safetensors"
        save_file({**load_file(path), **changed}, path)

    return damage


def edit_record(old: str, new: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        text = (folder / "record.json").read_text()
        assert old in text
        (folder / "record.json").write_text(text.replace(old, new))

    return damage


def huge_header(folder: Path) -> None:
    (folder / "adversarials.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")


DAMAGE = {
    "no folder": shutil.rmtree,
    "no record": lambda folder: (folder / "record.json").unlink(),
    "no examples": lambda folder: (folder / "examples.jsonl").unlink(),
    "no tensors": lambda folder: (folder / "adversarials.safetensors").unlink(),
    "record cut": cut("record.json", 0.5),
    "record empty": cut("record.json", 0),
    "examples cut in a line": cut("examples.jsonl", 0.5),
    "examples empty": cut("examples.jsonl", 0),
    "tensors cut": cut("adversarials.safetensors", 0.9),
    "tensors empty": cut("adversarials.safetensors", 0),
    "tensors with a huge header": huge_header,
    "not utf-8": lambda folder: (folder / "examples.jsonl").write_bytes(b'{"id": "\xff\xfe"}\n'),
    "record not utf-8": lambda folder: (folder / "record.json").write_bytes(b"\xff\xfe{}"),
    "a field too many": edit_line(0, favourite="blue"),
    "a wrong type": edit_line(0, label="cat"),
    "another outcome": edit_line(0, outcome="broken"),
    "an unknown outcome": edit_line(0, outcome="fine"),
    "a line that says its own row": edit_line(4, adversarial=7),
    "a line that says its own place": edit_line(4, position=7),
    "places missing": edit_tensors(positions=np.zeros(3, np.int64)),
    "places not rising": edit_tensors(positions=np.zeros(sum(COUNTS.values()), np.int64)),
    "places before the data": edit_tensors(positions=np.arange(-1, sum(COUNTS.values()) - 1)),
    "another schema": edit_record('"schema_version": "1"', '"schema_version": "2"'),
    "another shape": edit_record('"input_shape": [\n      1,', '"input_shape": [\n      3,'),
    "too few tensors": edit_tensors(inputs=np.zeros((3, *SHAPE), np.float32)),
    "other precision": edit_tensors(inputs=np.zeros((15, *SHAPE), np.float64)),
    "gallery rows missing": edit_tensors(gallery_clean=np.zeros((1, *SHAPE), np.float32)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_found_and_told(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    folder = tmp_path / "run"
    write_bundle(folder, COUNTS)
    assert read_bundle(folder).lines[4].outcome == "broken", "its own row is what a broken line could say"
    damage(folder)
    with pytest.raises(BundleError) as caught:
        read_bundle(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
