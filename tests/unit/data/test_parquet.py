"""Parquet: pictures, lists and numbers against the arrays that were written, what is refused, and row groups kept."""

import io
import json
import sys
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from potemkin.core.notation import parse
from potemkin.data import parquet_rows
from potemkin.data.checks import check_source
from potemkin.data.load import load_data
from potemkin.data.parquet import ParquetSource, parquet
from potemkin.errors import ConfigError, DataError
from unit.data.builders import pixels

pa = pytest.importorskip("pyarrow", reason="pyarrow, the extra [parquet], is not installed")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = 11
PICTURES = pixels(ROWS, 5, 4, 3)
NUMBERS = np.random.default_rng(0).normal(size=(ROWS, 3))
LABELS = [n % 3 for n in range(ROWS)]


def png(array):
    body = io.BytesIO()
    Image.fromarray(array).save(body, format="PNG")
    return body.getvalue()


BODIES = [png(picture) for picture in PICTURES]
STRUCTS = [{"bytes": body, "path": f"{n}.png"} for n, body in enumerate(BODIES)]
EXPECTED = PICTURES.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)


def write(path, columns, group=3, metadata=None):
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=group)
    return path


def features(**more):
    return {name: NUMBERS[:, k] for k, name in enumerate("abc")} | {"label": LABELS} | more


def everything(source):
    (batch,) = source.batches(len(source))
    return batch


INPUTS = {
    "Hugging Face's pictures": ({"image": STRUCTS}, EXPECTED),
    "binary": ({"image": pa.array(BODIES, pa.large_binary())}, EXPECTED),
    "numbers": ({name: NUMBERS[:, k] for k, name in enumerate("abc")}, NUMBERS.astype(np.float32)),
    "lists": ({"x": NUMBERS.tolist()}, NUMBERS.astype(np.float32)),
    "float32 lists of fixed size": (
        {"x": pa.FixedSizeListArray.from_arrays(pa.array(NUMBERS.astype(np.float32).ravel()), 3)},
        NUMBERS.astype(np.float32),
    ),
    "bytes as numbers": (
        {"x": pa.array([[0, 255]] * ROWS, pa.list_(pa.uint8()))},
        np.array([[0, 255]] * ROWS, np.float32),
    ),
    "whole numbers and flags": (
        {"n": list(range(ROWS)), "f": [n > 3 for n in range(ROWS)], "h": np.full(ROWS, 0.5, np.float16)},
        np.array([[n, n > 3, 0.5] for n in range(ROWS)], np.float32),
    ),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_each_kind_of_input_comes_out_as_it_was_written(tmp_path, kind):
    columns, expected = INPUTS[kind]
    source = load_data(write(tmp_path / "a.parquet", {"label": LABELS, **columns}))
    assert (len(source), source.input_shape, source.classes) == (ROWS, expected.shape[1:], None)
    assert source.labels().tolist() == LABELS
    batch = everything(source)
    assert (batch.ids, batch.labels.tolist()) == (list(range(ROWS)), LABELS)
    assert np.array_equal(batch.inputs.numpy(), expected)
    check_source(source, box=(-1000, 1000), classes=3)


@pytest.fixture(scope="module")
def two_kinds(tmp_path_factory):
    """A source of pictures and one of numbers, each over two files of several row groups, and all of their rows."""
    folder = tmp_path_factory.mktemp("parquet")
    for part, rows in enumerate((slice(0, 4), slice(4, ROWS))):
        write(folder / f"p-{part}.parquet", {"image": STRUCTS[rows], "label": LABELS[rows]}, group=2)
        write(folder / f"n-{part}.parquet", {k: v[rows] for k, v in features().items()}, group=2)
    sources = [load_data(str(folder / f"{kind}-{{0..1}}.parquet")) for kind in "pn"]
    return [(source, everything(source)) for source in sources]


@given(
    kind=st.integers(0, 1), order=st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=30), size=st.integers(1, 7)
)
def test_any_order_reads_what_reading_in_order_reads(two_kinds, kind, order, size):
    source, whole = two_kinds[kind]
    batches = list(source.batches(size, order))
    assert [i for batch in batches for i in batch.ids] == order
    assert torch.equal(torch.cat([batch.inputs for batch in batches]), whole.inputs[order])
    assert torch.equal(torch.cat([batch.labels for batch in batches]), whole.labels[order])


def test_rows_of_several_files_are_one_behind_the_other(two_kinds):
    assert np.array_equal(two_kinds[0][1].inputs.numpy(), EXPECTED)
    assert np.array_equal(two_kinds[1][1].inputs.numpy(), NUMBERS.astype(np.float32))
    assert two_kinds[1][0].labels().tolist() == LABELS


def test_image_size_and_sizes(tmp_path):
    bodies = [*BODIES[:2], png(pixels(1, 8, 9, 3)[0])]
    path = write(tmp_path / "a.parquet", {"image": bodies, "label": [0, 1, 2]})
    with pytest.raises(
        DataError, match=r"different sizes: row 2 is 9x8 \(width x height\), row 0 is 4x5.*image_size=S"
    ):
        load_data(path)
    assert load_data(path, image_size=4).input_shape == (3, 4, 4)
    assert load_data(f"parquet({str(path)!r}, image_size=2)").input_shape == (3, 2, 2)
    with pytest.raises(ConfigError, match="image_size=4 is for pictures"):
        load_data(write(tmp_path / "n.parquet", features()), image_size=4)


def test_what_the_first_look_missed_is_found_when_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("potemkin.data.parquet._LOOKED_AT", 1)
    bodies = [BODIES[0], png(pixels(1, 8, 9, 3)[0]), b"no picture", BODIES[1]]
    source = load_data(write(tmp_path / "a.parquet", {"image": bodies, "label": [0, 1, 2, 3]}))
    with pytest.raises(DataError, match="different sizes: row 1 is 9x8"):
        next(source.batches(4, [1]))
    with pytest.raises(DataError, match=r"Row 2, column 'image', cannot be read as a picture"):
        next(source.batches(4, [2]))
    assert np.array_equal(next(source.batches(4, [3])).inputs[0].numpy(), EXPECTED[1])


def test_grey_pictures_have_one_channel_and_mixed_ones_three(tmp_path):
    grey = png(PICTURES[0, ..., 0])
    assert load_data(write(tmp_path / "a.parquet", {"image": [grey], "label": [0]})).input_shape == (1, 5, 4)
    path = write(tmp_path / "b.parquet", {"image": [grey] * 5 + BODIES[:1], "label": [0] * 6}, group=2)
    assert load_data(path).input_shape == (3, 5, 4)


def test_columns_and_label_by_name(tmp_path):
    path = write(tmp_path / "a.parquet", features(y=LABELS[::-1], name=["x"] * ROWS))
    source = load_data(f"parquet({str(path)!r}, label='y', columns=('c', 'a'))")
    assert np.array_equal(everything(source).inputs.numpy(), NUMBERS[:, [2, 0]].astype(np.float32))
    assert source.labels().tolist() == LABELS[::-1]
    assert source.name == f"parquet('{tmp_path.name}/a.parquet', label='y', columns=('c', 'a'))"


def test_a_picture_goes_before_the_numbers_beside_it_and_pandas_row_names_are_no_feature(tmp_path):
    path = write(tmp_path / "a.parquet", {"width": LABELS, "image": BODIES, "label": LABELS})
    assert load_data(path).input_shape == (3, 5, 4)
    path = write(tmp_path / "b.parquet", features(__index_level_0__=LABELS))
    assert load_data(path).input_shape == (3,)


def test_class_names_of_hugging_face(tmp_path):
    def told(features):
        return {"huggingface": json.dumps({"info": {"features": features}})}

    names = {"label": {"names": ["ant", "bee", "cat"], "_type": "ClassLabel"}}
    source = load_data(write(tmp_path / "a.parquet", features(), metadata=told(names)))
    assert (source.classes, source.class_names) == (3, ["ant", "bee", "cat"])
    for other in ({}, {"label": {"dtype": "int64"}}, {"label": {"names": [1, 2]}}, {"label": 3}):
        assert load_data(write(tmp_path / "b.parquet", features(), metadata=told(other))).classes is None
    assert load_data(write(tmp_path / "c.parquet", features(), metadata={"huggingface": "{"})).classes is None
    names["label"]["names"] = ["ant", "bee"]
    with pytest.raises(DataError, match="go up to 2, but with 2 classes"):
        load_data(write(tmp_path / "d.parquet", features(), metadata=told(names)))


def at(values, row, value):
    return [value if n == row else held for n, held in enumerate(values)]


A = NUMBERS[:, 0].tolist()
LISTS = NUMBERS.tolist()
REFUSED = {
    "null": (features(a=at(A, 7, None)), r"Row 7 has no value \(null\) in column 'a' \(1 such row "),
    "nan": (features(a=at(A, 7, float("nan"))), r"Row 7 has nan in column 'a', which is no finite float32"),
    "infinite": (features(b=at(A, 8, float("-inf"))), r"Row 8 has -inf in column 'b'"),
    "beyond float32": (features(c=at(A, 10, 1e39)), r"Row 10 has 1e\+39 in column 'c'"),
    "null list": ({"x": at(LISTS, 4, None), "label": LABELS}, r"Row 4 has no value \(null\) in column 'x'"),
    "null in a list": ({"x": at(LISTS, 4, [1.0, 2.0, None]), "label": LABELS}, r"Row 4 has no value .* in column 'x'"),
    "nan in a list": ({"x": at(LISTS, 5, [1.0, float("nan"), 2.0]), "label": LABELS}, r"Row 5 has nan in column 'x'"),
    "another length": ({"x": at(LISTS, 6, [1.0]), "label": LABELS}, r"row 6, has length 1, the first one 3"),
    "null picture": ({"x": at(BODIES, 9, None), "label": LABELS}, r"Row 9, column 'x', holds no picture \(null\)"),
    "only a path": (
        {"x": at(STRUCTS, 3, {"bytes": None, "path": "/etc/passwd"}), "label": LABELS},
        r"Row 3, column 'x', holds no picture \(only a path, '/etc/passwd'\): embed its bytes",
    ),
    "null label": (features(label=at(LABELS, 5, None)), r"Row 5 has no value \(null\) in column 'label'"),
    "text labels": (features(label=["a"] * ROWS), r"column 'label', are string, expected whole class numbers"),
    "fractions": (features(label=A), r"column 'label', are double, expected whole class numbers"),
    "below zero": (features(label=at(LABELS, 1, -1)), r"include -1"),
    "beyond int64": (features(label=pa.array([1 << 63] * ROWS, pa.uint64())), "labels of .* reach 9223372036854775808"),
    "no label": ({"a": A}, r"has no column 'label' or 'labels': name it, .*label='NAME'\)\. It holds 'a'"),
    "two labels": (features(labels=LABELS), "has two label columns"),
    "a text beside numbers": (features(d=["x"] * ROWS), r"are no one input: .*columns=\('NAME', .*'d' \(string\)"),
    "two pictures": ({"x": BODIES, "y": BODIES, "label": LABELS}, "are no one input"),
    "a list beside numbers": ({"x": LISTS, "a": A, "label": LABELS}, "are no one input"),
    "lists of lists": ({"x": [[[1.0]]] * ROWS, "label": LABELS}, "are no one input"),
    "only labels": ({"label": LABELS}, "are no one input"),
    "no rows": ({"a": pa.array([], pa.float32()), "label": pa.array([], pa.int64())}, "There are no rows"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_by_name(tmp_path, case):
    columns, said = REFUSED[case]
    with pytest.raises(DataError, match=said):
        everything(load_data(write(tmp_path / "a.parquet", columns)))


def test_a_damaged_or_truncated_file(tmp_path):
    path = write(tmp_path / "a.parquet", features())
    body = path.read_bytes()
    path.write_bytes(body[:-20])
    with pytest.raises(
        DataError, match=r"a\.parquet cannot be read as parquet \(its footer: .*fetch or write it again"
    ):
        load_data(path)
    path.write_bytes(bytes(len(body) // 3) + body[len(body) // 3 :])
    with pytest.raises(DataError, match=r"a\.parquet cannot be read as parquet \(row group 0"):
        load_data(path)


def test_a_file_that_changes_is_noticed(tmp_path):
    source = load_data(write(tmp_path / "a.parquet", features()))
    write(tmp_path / "a.parquet", features(label=LABELS[::-1]), group=5)
    with pytest.raises(DataError, match="was changed after it had been opened"):
        everything(source)


def test_files_with_other_columns(tmp_path):
    write(tmp_path / "0.parquet", features(extra=A))
    write(tmp_path / "1.parquet", features())
    with pytest.raises(DataError, match=r"column 'extra' is double in 0\.parquet, but missing in 1\.parquet"):
        load_data(tmp_path)
    write(tmp_path / "1.parquet", features(extra=LABELS))
    with pytest.raises(DataError, match=r"column 'extra' is double in 0\.parquet, but int64 in 1\.parquet"):
        load_data(tmp_path)
    assert len(load_data(f"parquet({str(tmp_path)!r}, columns=('a',))")) == 2 * ROWS


def test_folders(tmp_path):
    for part in range(2):
        write(tmp_path / f"train-0000{part}-of-00002.parquet", features())
    (tmp_path / ".cache").mkdir()
    assert len(load_data(tmp_path)) == 2 * ROWS
    write(tmp_path / "test-00000-of-00001.parquet", features())
    with pytest.raises(DataError, match="holds several splits, 'test', 'train': give one"):
        load_data(tmp_path)
    assert len(load_data(str(tmp_path / "train-{00000..00001}-of-00002.parquet"))) == 2 * ROWS
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no \.parquet file in the folder"):
        parquet(str(tmp_path / "empty")).open()


def test_few_row_groups_are_kept_and_a_batch_decodes_each_once(tmp_path, monkeypatch):
    read = []
    table = parquet_rows.RowGroups.table

    def counting(self, group, columns):
        read.append(group)
        return table(self, group, columns)

    source = load_data(write(tmp_path / "a.parquet", features(), group=1))
    monkeypatch.setattr(parquet_rows.RowGroups, "table", counting)
    assert source._rows.group_of(np.arange(ROWS)).tolist() == list(range(ROWS))
    everything(source)
    assert read == list(range(ROWS)) and list(source._rows._kept) == [7, 8, 9, 10]
    next(source.batches(9, [8, 10, 8]))
    assert len(read) == ROWS
    next(source.batches(9, [0, 8, 0, 8]))
    assert read[ROWS:] == [0] and 8 in source._rows._kept and 7 not in source._rows._kept


class Rows(Dataset):
    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    def __getitem__(self, place):
        batch = next(self.source.batches(1, [place]))
        return batch.inputs[0], batch.labels[0]


@pytest.mark.parametrize("kind", [0, 1])
def test_a_pickle_and_two_workers_read_the_same(two_kinds, kind):
    source, whole = two_kinds[kind]
    again = ForkingPickler.loads(ForkingPickler.dumps(source))
    assert source._rows._kept and not again._rows._kept
    assert again.fingerprint() == source.fingerprint()
    loader = DataLoader(Rows(source), batch_size=4, num_workers=2, multiprocessing_context="fork")
    assert torch.equal(torch.cat([inputs for inputs, _ in loader]), whole.inputs)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", features())
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match=r"pip install 'potemkin-ml\[parquet\]'"):
        load_data(path)


def test_notation_round_trip():
    spec = "parquet('a.parquet', label='y', columns=('a', 'b'), image_size=8)"
    assert repr(parse(spec, kind="data")) == spec
    assert parse("parquet('a.parquet')", kind="data") == parquet("a.parquet")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"columns": ()}, "columns must be a tuple of different names"),
        ({"columns": "a"}, "columns must be a tuple of different names"),
        ({"columns": ("a", "a")}, "columns must be a tuple of different names"),
        ({"columns": ("a", 3)}, "columns must be a tuple of different names"),
        ({"columns": ("a", "lable")}, r"has no column 'lable'\. Did you mean 'label'\?"),
        ({"columns": ("a", "label")}, "is the label, it cannot be an input too"),
        ({"label": 3}, "label .* must be a text"),
        ({"label": "y"}, "has no column 'y'"),
        ({"image_size": 0}, "image_size must be"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, said):
    path = write(tmp_path / "a.parquet", features())
    with pytest.raises(ConfigError, match=said):
        ParquetSource([path], "x", **arguments)
    with pytest.raises(ConfigError, match=said):
        parquet(str(path), **arguments).open()
