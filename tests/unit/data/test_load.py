"""From what a user gives to a source: which form it is taken for, and a table of bad calls."""

import os
import sys

import numpy as np
import pytest
import torch

from potemkin.data.arrays import ArraySource
from potemkin.data.builtin import digits
from potemkin.data.load import as_source, load_data
from potemkin.errors import ConfigError, DataError, PotemkinError
from unit.data.builders import classes, idx_bytes, pixels, write_folder, write_idx, write_npz

X, Y = pixels(6, 5, 4), classes(6)
FLOATS = np.random.default_rng(0).random((6, 5), dtype=np.float32)


def test_each_form(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_npz(tmp_path / "a.npz", x=X, y=Y)
    write_folder(tmp_path / "pets")
    write_idx(tmp_path, idx_bytes(X), idx_bytes(Y.astype(np.uint8)))
    for spec, name, count in (
        ("digits", "digits", 500),
        (" digits( part = 'train' ) ", "digits(part='train')", 1297),
        ("a.npz", "a.npz", 6),
        ("./a.npz", "a.npz", 6),
        (tmp_path / "a.npz", f"{tmp_path.name}/a.npz", 6),
        ("pets", "pets", 4),
        ("pets/", "pets", 4),
        ("t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte", 6),
        ((X, Y), "arrays", 6),
        ([X, Y], "arrays", 6),
        (digits(), "digits", 500),
    ):
        source = load_data(spec)
        assert (source.name, len(source)) == (name, count), spec


def test_a_registered_name_goes_before_a_folder_which_a_path_reaches(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "digits")
    assert len(load_data("digits")) == 500
    assert len(load_data("./digits")) == 4


FUNCTIONS = """
import neighbour
import numpy as np
import torch
from potemkin.data.builtin import digits
from potemkin.errors import DataError

x, y = np.full((3, 2), neighbour.VALUE, dtype=np.float32), [0, 1, 0]

def arrays(): return x, np.array(y)
def tensors(): return torch.from_numpy(x), torch.tensor(y)
def lists(): return x.tolist(), y
def pairs(): return list(zip(x, y))
def recipe(): return digits(part="all")
def nothing(): pass
def text(): return "digits"
def needs(argument): return x, y
def fails(): raise ValueError("no such table")
def quits(): raise SystemExit(3)
def refuses(): raise DataError("my own words")
def generator():
    yield x[0], 0
value = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module `own_data` with a neighbour, in a folder that is not the current one's parent; gives its path."""
    (tmp_path / "own_data.py").write_text(FUNCTIONS)
    (tmp_path / "neighbour.py").write_text("VALUE = 0.25\n")
    (tmp_path / "broken.py").write_text("import no_such_library_at_all\n")
    (tmp_path / "syntax.py").write_text("def f(:\n")
    (tmp_path / "elsewhere").mkdir()
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name in {"own_data", "neighbour", "broken", "syntax"} or name.startswith("_potemkin_data_"):
            del sys.modules[name]


@pytest.mark.parametrize("function", ["arrays", "tensors", "lists", "pairs"])
@pytest.mark.parametrize("by_path", [False, True])
def test_functions(module, monkeypatch, function, by_path):
    monkeypatch.chdir(module / "elsewhere" if by_path else module)
    spec = f"{module / 'own_data.py'}:{function}" if by_path else f"own_data:{function}"
    path_before = list(sys.path)
    source = load_data(spec)
    assert sys.path == path_before
    assert source.name == f"{module.name}/own_data.py:{function}" if by_path else spec
    (batch,) = source.batches(3)
    assert torch.equal(batch.inputs, torch.full((3, 2), 0.25))
    assert batch.labels.tolist() == [0, 1, 0]


def test_a_function_may_return_a_source(module, monkeypatch):
    monkeypatch.chdir(module)
    assert len(load_data("own_data:recipe")) == 1797


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("own_data:array", "'own_data' has no function 'array'.*Did you mean 'arrays'"),
        ("own_data.py:array", "has no function 'array'.*Did you mean 'arrays'"),
        (
            "own_dat:arrays",
            "no module 'own_dat'.*neither installed nor in the folder.*Did you mean 'own_data'.*py:function",
        ),
        ("own_data.sub:arrays", "no module 'own_data.sub'"),
        ("own_dat.py:arrays", "no file 'own_dat.py'"),
        (
            "broken:arrays",
            "'broken' failed while it was imported: ModuleNotFoundError: No module named 'no_such_library_at_all'",
        ),
        ("broken.py:arrays", "'broken.py' failed while it was imported.*no_such_library_at_all"),
        ("syntax.py:f", "'syntax.py' failed while it was imported: SyntaxError"),
        ("own_data:nothing", "returned None.*is a return missing"),
        ("own_data:text", "returned 'digits', expected .inputs, labels."),
        ("own_data:needs", "needs.*is called without arguments, but needs some"),
        ("own_data:fails", r"ValueError: no such table \(own_data.py, line \d+\)"),
        ("own_data:quits", "SystemExit: 3"),
        ("own_data:refuses", "^my own words$"),
        ("own_data:generator", "can be read only once"),
        ("own_data:value", "is int, not a function that returns the data"),
        ("own_data:", "names no function"),
        (":arrays", "names no function"),
        ("own_data:arrays()", "names no function"),
        ("https://example.org/a.npz", "is an address: nothing is downloaded"),
    ],
)
def test_functions_that_fail(module, monkeypatch, spec, said):
    monkeypatch.chdir(module)
    path_before = list(sys.path)
    with pytest.raises(DataError, match=said):
        load_data(spec)
    assert sys.path == path_before


# -- the table of bad calls ------------------------------------------------------------------------------------------

BAD_ARRAYS = [
    (FLOATS, Y[:5], "Found 6 inputs but 5 labels in birds"),
    (FLOATS[:1], Y[:2], "Found 1 input but 2 labels in birds"),
    (FLOATS[:0], Y[:0], "no examples in birds"),
    (FLOATS[:, 0], Y, r"shape \(6,\), expected \(N, d\).*reshape\(-1, 1\)"),
    (np.float32(3), Y, "a single number"),
    (FLOATS[:, :0], Y, r"shape \(6, 0\): the examples are empty"),
    (FLOATS.astype(complex), Y, "complex128, expected numbers"),
    (FLOATS.astype(str), Y, "expected numbers"),
    (np.array([[1], "a"], dtype=object), Y[:2], "array of Python objects.*np.stack"),
    ([[1.0, 2.0], [3.0]], [0, 1], "do not make one array"),
    (torch.eye(6).to_sparse(), Y, "dense one .tensor.to_dense"),
    (X.astype(np.uint16), Y, r"are uint16 \(0 to 255\).*does not say which value is white"),
    (X.astype(np.int32) * 257, Y, "go from 0 to 65535, expected 0 to 255"),
    (X.astype(np.int16) - 128, Y, "go from -128 to 127, expected 0 to 255"),
    (X // 128, Y, "hold only 0 and 1.*astype"),
    (pixels(6, 5, 4, 4), Y, "neither dimension 1 nor the last is 1 or 3 channels. Drop the alpha channel"),
    (pixels(6, 5, 4, 7), Y, "neither dimension 1 nor the last is 1 or 3 channels"),
    (pixels(6, 3, 4, 1), Y, "channels may come first or last"),
    (pixels(6, 2, 3, 4, 5), Y, "images are .N, H, W., .N, H, W, C. or .N, C, H, W."),
    (FLOATS.reshape(6, 5, 1, 1)[:, :, [0, 0]], Y, "channels come last, expected first"),
    (FLOATS, Y - 1, "labels of birds include -1 .the first at place 0.: classes are counted from 0"),
    (FLOATS, Y.astype(float), "are float64 such as 0.0, expected whole class numbers.*astype"),
    (FLOATS, np.array(["a", "b"] * 3), "texts such as 'a'.*return_inverse"),
    (FLOATS, np.eye(6), "looks like one-hot rows or scores.*argmax"),
    (FLOATS, Y.reshape(6, 1, 1), r"shape \(6, 1, 1\), expected \(6,\)"),
    (FLOATS, np.full(6, 2**63, dtype=np.uint64), "labels of .* reach 9223372036854775808"),
    (FLOATS, None, "labels of .* Python objects"),
]


@pytest.mark.parametrize(("inputs", "labels", "said"), BAD_ARRAYS)
def test_bad_arrays(inputs, labels, said):
    with pytest.raises(DataError, match=said):
        as_source((inputs, labels), name="birds") if labels is not None else ArraySource(inputs, None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ids": range(5)}, "6 inputs but 5 ids"),
        ({"ids": [1, 2, 3, 4, 5, 5]}, "Some ids of .* occur more than once"),
        ({"class_names": ["a", "b"]}, "go up to 2, but with 2 classes"),
        ({"classes": 2}, "go up to 2, but with 2 classes"),
    ],
)
def test_bad_options_of_array_sources(options, said):
    with pytest.raises(DataError, match=said):
        ArraySource(FLOATS, Y, **options)


BAD_MEMBERS = [
    ({"images": X}, r"has no labels: expected one of the keys labels, y, found images\. Write it with"),
    ({"labels": Y}, "has no inputs: expected one of the keys images, inputs, x, found labels"),
    ({}, "found nothing"),
    ({"x_test": X, "y_test": Y}, "found x_test, y_test. .*np.savez_compressed"),
    ({"x": X, "images": X, "y": Y}, "has inputs under images and x: keep exactly one"),
    ({"x": X, "y": Y, "labels": Y}, "has labels under labels and y: keep exactly one"),
    ({"x": X, "y": Y + 1, "names": np.array(["a", "b", "c"])}, "go from 1 to 3.*Subtract 1"),
    ({"x": X, "y": Y, "names": np.array([1, 2, 3])}, "'names' in .* expected one text per class"),
    ({"x": X, "y": Y, "names": np.array("abc")}, "'names' in .* expected one text per class"),
]


@pytest.mark.parametrize(("members", "said"), BAD_MEMBERS)
def test_bad_npz(tmp_path, members, said):
    with pytest.raises(DataError, match=said):
        load_data(write_npz(tmp_path / "bad.npz", **members))


BAD_SPECS = [
    ("digit", ConfigError, "neither a registered name nor a path.*Did you mean 'digits'.*a .npz file, an idx"),
    ("", ConfigError, "named by an empty text"),
    ("  ", ConfigError, "named by an empty text"),
    ("a\0b.npz", DataError, "there is no such file or folder"),
    ("x" * 5000, DataError, "cannot be looked at"),
    ("bare.npy", DataError, "holds one bare array"),
    ("pipe.npz", DataError, "neither a file nor a folder"),
    ("digits(part='tset')", ConfigError, "found 'tset'. Did you mean 'test'"),
    ("digits(prt='test')", ConfigError, "part"),
    ("digits(part=open('x'))", ConfigError, "open"),
    ("digits('test'", ConfigError, "digits"),
    ("no/such/file.npz", DataError, "there is no such file or folder"),
    ("file.npz", DataError, "there is no such file or folder"),
    ("table.csv", DataError, "of no known format .[.]csv.*path.py:function"),
    ("model.pt", DataError, "reading it may run code .pickle., so it is refused"),
    ("data.pkl", DataError, "so it is refused"),
    ("bare", DataError, "of no known format .no suffix."),
]


@pytest.mark.parametrize(("spec", "kind", "said"), BAD_SPECS)
def test_bad_specs(tmp_path, monkeypatch, spec, kind, said):
    monkeypatch.chdir(tmp_path)
    for name in ("table.csv", "model.pt", "data.pkl", "bare"):
        (tmp_path / name).write_text("1,2,3\n")
    np.save(tmp_path / "bare.npy", X)
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(kind, match=said) as caught:
        load_data(spec)
    assert isinstance(caught.value, PotemkinError)
    assert "\n\n" not in str(caught.value)


def test_a_name_of_another_kind():
    with pytest.raises(ConfigError, match=r"'pgd' is an attack, but a data is wanted|'pgd' is an attack"):
        load_data("pgd")


@pytest.mark.parametrize("spec", ["digits", (FLOATS, Y), "a.npz"])
def test_image_size_is_for_folders(tmp_path, monkeypatch, spec):
    monkeypatch.chdir(tmp_path)
    write_npz(tmp_path / "a.npz", x=X, y=Y)
    with pytest.raises(ConfigError, match="image_size=8 is for image folders"):
        load_data(spec, image_size=8)


def test_one_array_without_labels():
    for alone in (FLOATS, torch.from_numpy(FLOATS)):
        with pytest.raises(DataError, match=r"one array of shape \(6, 5\), without labels: give a tuple"):
            load_data(alone)
    with pytest.raises(DataError, match="3 arrays, expected two"):
        load_data((FLOATS, Y, Y))
