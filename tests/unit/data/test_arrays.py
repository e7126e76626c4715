"""Arrays and tensors: what becomes of types, shapes, ids; nothing held as float32."""

import tracemalloc

import numpy as np
import pytest
import torch

from potemkin.data.arrays import ArraySource
from potemkin.data.load import as_source
from potemkin.errors import ConfigError, DataError
from unit.data.builders import classes, pixels


def served(inputs, **options):
    (batch,) = ArraySource(inputs, classes(len(inputs)), **options).batches(len(inputs))
    return batch.inputs


def test_uint8_pixels_become_255ths_with_the_channel_first():
    grey, last, first = pixels(3, 5, 4), pixels(3, 5, 4, 3), pixels(3, 3, 5, 4)
    assert np.array_equal(served(grey).numpy(), grey[:, None].astype(np.float32) / np.float32(255))
    assert np.array_equal(served(last).numpy(), last.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    assert np.array_equal(served(first).numpy(), first.astype(np.float32) / np.float32(255))
    assert served(pixels(3, 5, 4, 1)).shape == (3, 1, 5, 4)
    assert served(last).is_contiguous()


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.int8, np.uint32])
def test_other_integers_in_0_to_255_are_pixels_too(dtype):
    values = pixels(3, 5, 4) // 4
    assert torch.equal(served(values.astype(dtype)), served(values))


@pytest.mark.parametrize("shape", [(3,), (4, 4), (1, 5, 4), (3, 5, 4), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_taken_as_they_are(shape, dtype):
    values = np.random.default_rng(0).normal(size=(6, *shape)).astype(dtype)
    assert np.array_equal(served(values).numpy(), values.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint16, np.bool_])
def test_integer_features_stay_numbers(dtype):
    values = np.arange(12).reshape(4, 3).astype(dtype)
    assert np.array_equal(served(values).numpy(), values.astype(np.float32))


def test_floats_with_channels_last_pass_where_the_model_expects_them():
    values = np.random.default_rng(0).random((4, 6, 5, 3), dtype=np.float32)
    with pytest.raises(DataError, match=r"channels come last.*\(4, 3, 6, 5\).*transpose"):
        ArraySource(values, classes(4))
    assert torch.equal(served(values, input_shape=(6, 5, 3)), torch.from_numpy(values))


def test_pixels_with_channels_last_stay_so_where_the_model_expects_them():
    values = pixels(4, 6, 5, 3)
    expected = values.astype(np.float32) / np.float32(255)
    assert np.array_equal(served(values, input_shape=(6, 5, 3)).numpy(), expected)
    assert np.array_equal(served(values, input_shape=(3, 6, 5)).numpy(), expected.transpose(0, 3, 1, 2))


def test_items_of_a_data_set_are_spoken_of_one_by_one():
    """Whoever gives a data set has no array of shape (N, H, W, C) to transpose."""
    items = [(torch.rand(6, 5, 3), 0), (torch.rand(6, 5, 3), 1)]
    for data in (items, torch.utils.data.DataLoader(items, batch_size=2)):
        with pytest.raises(DataError, match=r"shape \(6, 5, 3\) each.*expected first, \(3, 6, 5\).*permute\(2, 0, 1\)"):
            as_source(data)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_tensors_as_arrays(dtype):
    values = (torch.arange(4 * 3 * 5 * 5) % 200).reshape(4, 3, 5, 5).to(dtype)
    expected = values.float() / 255 if dtype == torch.uint8 else values.float()
    source = as_source((values.requires_grad_(dtype.is_floating_point), torch.arange(4)))
    (batch,) = source.batches(4)
    assert torch.equal(batch.inputs, expected)
    assert not batch.inputs.requires_grad


def test_lists_of_numbers_are_arrays():
    (batch,) = as_source(([[0.5, 1.0], [0.0, 0.25]], [1, 0])).batches(2)
    assert batch.inputs.tolist() == [[0.5, 1.0], [0.0, 0.25]]
    assert batch.labels.tolist() == [1, 0]


def test_batches_are_copies_of_what_is_stored():
    values = np.ones((4, 2), dtype=np.float32)
    for indices in (None, [0, 1], np.array([3]), range(4)):
        for batch in ArraySource(values, classes(4)).batches(2, indices):
            batch.inputs.zero_()
            batch.labels.zero_()
    assert (values == 1).all()
    source = ArraySource(values, classes(4))
    next(source.batches(4)).labels.add_(7)
    source.labels()[:] = 9
    assert next(source.batches(4)).labels.tolist() == [0, 1, 2, 0]


def test_indices_in_their_order_and_sizes_of_batches():
    source = ArraySource(pixels(7, 4, 4), classes(7), ids=[f"p{i}" for i in range(7)])
    batches = list(source.batches(2, torch.tensor([5, 0, 6, 5, 1])))
    assert [batch.ids for batch in batches] == [["p5", "p0"], ["p6", "p5"], ["p1"]]
    assert [batch.positions.tolist() for batch in batches] == [[5, 0], [6, 5], [1]]
    assert [batch.labels.tolist() for batch in batches] == [[2, 0], [0, 2], [1]]
    assert list(source.batches(2, [])) == []
    assert sum(len(batch) for batch in source.batches(3)) == 7


@pytest.mark.parametrize("indices", [[7], [-1], [0.5], [[0]], ["0"]])
def test_positions_that_do_not_exist(indices):
    with pytest.raises(ConfigError, match=r"[Pp]osition"):
        list(ArraySource(pixels(7, 4, 4), classes(7)).batches(2, indices))


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_batch_sizes_that_do_not_exist(size):
    with pytest.raises(ConfigError, match="batch size"):
        ArraySource(pixels(7, 4, 4), classes(7)).batches(size)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64, np.bool_])
def test_labels_of_any_integer_type_and_as_a_column(dtype):
    labels = np.array([0, 1, 1, 0]).astype(dtype)
    for given in (labels, labels[:, None]):
        assert ArraySource(np.zeros((4, 2)), given).labels().tolist() == [0, 1, 1, 0]


def test_memory_stays_flat():
    stored = pixels(20_000, 32, 32)  # 20 MB; as float32 it would be 82 MB
    tracemalloc.start()
    try:
        source = ArraySource(stored, classes(len(stored)))
        total = sum(float(batch.inputs.sum()) for batch in source.batches(128))
        source.fingerprint()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == pytest.approx(stored.sum() / 255, rel=1e-4)
    assert peak < 4e6
