"""Real sets, where POTEMKIN_DATA points at them: they load, stream and pass the checks."""

import numpy as np
import pytest
import torch
from PIL import Image

from potemkin.data.checks import check_source, checked_batches
from potemkin.data.load import load_data
from potemkin.data.sampling import choose_from
from potemkin.errors import DataError

NPZ = {
    "mnist/test.npz": (10_000, (1, 28, 28), 10),
    "fashion_mnist/test.npz": (10_000, (1, 28, 28), 10),
    "cifar10/test.npz": (10_000, (3, 32, 32), 10),
    "gtsrb/test.npz": (1_505, (3, 32, 32), 43),
    "faces_att/faces.npz": (400, (1, 112, 92), 40),
}


@pytest.mark.parametrize("file", NPZ)
def test_npz(data_root, file):
    count, shape, classes = NPZ[file]
    source = load_data(data_root / file)
    assert (len(source), source.input_shape, source.classes, source.name) == (count, shape, classes, file)
    choice = choose_from(source, 2 * classes, "balanced", seed=1)
    check_source(source, box=(0, 1), classes=classes, positions=choice.positions)
    assert source.input_shape == shape
    seen = list(checked_batches(source, choice.positions, 32, (0, 1), classes))
    counts = np.bincount(torch.cat([batch.labels for batch in seen]).numpy(), minlength=classes)
    assert (counts == 2).all()


def test_the_published_mean_of_cifar10_comes_out(data_root):
    source = load_data(data_root / "cifar10" / "test.npz")
    total = torch.zeros(3, dtype=torch.float64)
    for batch in source.batches(500):
        total += batch.inputs.double().mean(dim=(2, 3)).sum(dim=0)
    assert (total / len(source)).tolist() == pytest.approx([0.4942, 0.4851, 0.4504], abs=2e-3)


def test_idx_and_npz_of_mnist_are_the_same_examples(data_root):
    idx = load_data(data_root / "mnist" / "idx" / "t10k-1000-images-idx3-ubyte.gz")
    npz = load_data(data_root / "mnist" / "test.npz")
    assert len(idx) == 1000
    assert idx.fingerprint() == npz.fingerprint(range(1000)) != npz.fingerprint(range(1, 1001))
    assert next(npz.batches(10)).labels.tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_labels_counted_from_1(data_root):
    with np.load(data_root / "faces_att" / "faces.npz", allow_pickle=False) as stored:
        images, subjects = stored["images"], stored["subject"]
    with pytest.raises(DataError, match=r"go from 1 to 40, but with 40 classes.*Subtract 1"):
        check_source(load_data((images, subjects)), box=(0, 1), classes=40)


def test_photographs_of_all_sizes_in_a_folder(data_root, tmp_path):
    files = sorted((data_root / "det_raccoon" / "images").glob("*.jpg"))[:30]
    for number, file in enumerate(files):
        target = tmp_path / f"part{number % 2}" / file.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(file.read_bytes())
    with pytest.raises(DataError, match=r"different sizes.*image_size=S"):
        load_data(tmp_path)
    source = load_data(tmp_path, image_size=64)
    check_source(source, box=(0, 1), classes=2)
    assert source.input_shape == (3, 64, 64)
    assert sum(len(batch) for batch in checked_batches(source, None, 8, (0, 1), 2)) == 30
    first = next(source.batches(1))
    with Image.open(tmp_path / str(first.ids[0])) as image:
        expected = np.asarray(image.convert("RGB")).mean() / 255
    assert float(first.inputs.mean()) == pytest.approx(expected, abs=0.1)
