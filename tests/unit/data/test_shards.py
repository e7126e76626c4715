"""Tar shards: the index against tarfile itself, every fault by name, hostile members, and the way to the workers."""

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from potemkin.core.notation import parse
from potemkin.data import files, tar_samples
from potemkin.data.checks import check_source
from potemkin.data.files import OpenFiles, expand
from potemkin.data.load import load_data
from potemkin.data.shards import ShardSource, shards
from potemkin.errors import ConfigError, DataError
from unit.data.builders import pixels


def png(array):
    body = io.BytesIO()
    Image.fromarray(array).save(body, format="PNG")
    return body.getvalue()


PICTURES = pixels(12, 5, 4, 3)


def samples(first, count):
    """KEY.png and KEY.cls for the pictures from `first` on; the label of number n is 2n."""
    for n in range(first, first + count):
        yield f"{n:04d}.png", png(PICTURES[n])
        yield f"{n:04d}.cls", f"{2 * n}\n".encode()


def write_tar(path, members, **options):
    """(name, body) is a file; a TarInfo is written as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


def member(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def left_out(path, **options):
    return ShardSource(expand(path), "x", faulty="leave out", **options)


def everything(source):
    (batch,) = source.batches(len(source))
    return batch


@pytest.fixture
def three(tmp_path):
    """Three shards of 5, 3 and 4 samples; gives the pattern."""
    for shard, (first, count) in enumerate([(0, 5), (5, 3), (8, 4)]):
        write_tar(tmp_path / f"s-{shard:02d}.tar", samples(first, count))
    return str(tmp_path / "s-{00..02}.tar")


def test_all_samples_in_order_with_keys_labels_and_pixels(three):
    source = load_data(three)
    assert (len(source), source.input_shape, source.classes, source.left_out) == (12, (3, 5, 4), None, [])
    assert source.name == f"{Path(three).parent.name}/s-{{00..02}}.tar"
    assert source.labels().tolist() == [2 * n for n in range(12)]
    batch = everything(source)
    assert batch.ids == [f"{n:04d}" for n in range(12)]
    assert batch.labels.tolist() == source.labels().tolist()
    assert np.array_equal(batch.inputs.numpy(), PICTURES.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    check_source(source, box=(0, 1), classes=23)


@given(order=st.lists(st.integers(0, 11), min_size=1, max_size=30), size=st.integers(1, 7))
def test_any_order_reads_what_reading_in_order_reads(shared_three, order, size):
    source, whole = shared_three
    batches = list(source.batches(size, order))
    assert [i for batch in batches for i in batch.ids] == [whole.ids[n] for n in order]
    assert torch.equal(torch.cat([batch.inputs for batch in batches]), whole.inputs[order])
    assert torch.equal(torch.cat([batch.labels for batch in batches]), whole.labels[order])


@pytest.fixture(scope="module")
def shared_three(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(3):
        write_tar(folder / f"{shard}.tar", samples(4 * shard, 4))
    source = load_data(str(folder / "{0..2}.tar"))
    return source, everything(source)


def test_real_shards_are_what_tarfile_and_pillow_read(data_root):
    path = data_root / "imagenet_sample" / "shard-000001.tar"
    source = load_data(str(data_root / "imagenet_sample" / "shard-{000000..000001}.tar"), image_size=64)
    assert (len(source), source.input_shape, source.classes, source.class_names[1]) == (
        380,
        (3, 64, 64),
        1000,
        "goldfish",
    )
    assert len(set(source.labels().tolist())) == 380
    with tarfile.open(path) as tar:
        names = [name for name in tar.getnames() if name.endswith(".jpg")]
        first = len(source) - len(names)
        batch = next(source.batches(9, [first + 7, first]))
        assert batch.ids == [names[7].removesuffix(".jpg"), names[0].removesuffix(".jpg")]
        assert batch.labels.tolist() == [int(name[:4]) for name in batch.ids]
        image = Image.open(tar.extractfile(names[7])).convert("RGB")
    with pytest.raises(DataError, match=r"different sizes: '.*' in shard-00000\d\.tar is \d+x\d+ .*image_size=S"):
        load_data(path)
    short = min(image.size)
    scaled = image.resize((64 * image.width // short, 64 * image.height // short), Image.Resampling.BILINEAR)
    left, top = round((scaled.width - 64) / 2), round((scaled.height - 64) / 2)
    expected = np.asarray(scaled.crop((left, top, left + 64, top + 64))).transpose(2, 0, 1)
    assert np.array_equal(batch.inputs[0].numpy() * 255, expected)


def test_a_shard_that_was_cut_is_refused_or_read_up_to_there(data_root, tmp_path):
    whole = data_root / "imagenet_sample" / "shard-000000.tar"
    (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[:2_000_000])
    with pytest.raises(
        DataError, match=r"cut\.tar is truncated|cut\.tar: is truncated or damaged: it ends at byte 2000000"
    ):
        load_data(tmp_path / "cut.tar", image_size=32)
    source = left_out(tmp_path / "cut.tar", image_size=32)
    full = load_data(whole, image_size=32)
    assert 20 < len(source) < len(full)
    assert source.fingerprint() == full.fingerprint(range(len(source)))
    assert "whatever followed is missing" in source.left_out[0]


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_grouped_by_key_in_any_tar_format(tmp_path, style):
    """Folders, keys that come back later, other members, upper case, names beyond a header's 100 characters."""
    long = "d" * 90 + "/" + ("e" * 120 if style != tarfile.USTAR_FORMAT else "e" * 90)
    a, b, c = (png(PICTURES[n]) for n in range(3))
    path = write_tar(
        tmp_path / "a.tar",
        [
            member("train", tarfile.DIRTYPE),
            ("./train/1.cls", b" 7 "), (f"{long}.PNG", b), ("train/1.txt", b"a caption"),
            ("._1.png", b"x"), ("__key__", b"x"), ("train/1.seg.png", b"no input"),
            (f"{long}.json", b'{"label": 3, "width": 4}'), ("./train/1.png", a),
            ("über.json", b'{"label": "tench", "cls": 0}'), ("über.png", c),
        ],
        format=style,
    )  # fmt: skip
    if style != tarfile.USTAR_FORMAT:
        source = load_data(path)
        assert everything(source).ids == ["train/1", long, "über"]
        assert source.labels().tolist() == [7, 3, 0]
        assert np.array_equal(everything(source).inputs[1].numpy() * 255, PICTURES[1].transpose(2, 0, 1))
    else:
        assert len(load_data(path)) == 3


def test_a_key_in_two_shards_is_told_apart_by_the_shard(tmp_path):
    for shard in "01":
        write_tar(tmp_path / f"{shard}.tar", samples(0, 2))
        write_tar(tmp_path / f"part{shard}" / "s.tar", samples(0, 1))
    assert everything(load_data(str(tmp_path / "{0..1}.tar"))).ids == [
        "0.tar/0000",
        "0.tar/0001",
        "1.tar/0000",
        "1.tar/0001",
    ]
    folders = load_data(str(tmp_path / "part{0..1}" / "s.tar"))
    assert everything(folders).ids == ["part0/s.tar/0000", "part1/s.tar/0000"]


def test_grey_pictures_have_one_channel(tmp_path):
    grey = [("1.png", png(PICTURES[0, ..., 0])), ("1.cls", b"0")]
    assert load_data(write_tar(tmp_path / "a.tar", grey)).input_shape == (1, 5, 4)
    mixed = load_data(write_tar(tmp_path / "b.tar", [*grey, *samples(5, 1)]))
    assert mixed.input_shape == (3, 5, 4)
    assert np.array_equal(everything(mixed).inputs[0, 2].numpy() * 255, PICTURES[0, ..., 0])
    assert load_data(write_tar(tmp_path / "c.tar", [*samples(5, 1), *grey])).input_shape == (3, 5, 4)


# Faults: each is refused by name, and left out by name if that is asked for.

GOOD = list(samples(0, 2))
FAULTS = {
    "no label": ([("9.png", GOOD[0][1])], r"the sample '9' has no label .*it holds \.png"),
    "no picture": ([("9.cls", b"1")], r"the sample '9' has no picture: it holds \.cls"),
    "neither": ([("README.md", b"hi")], r"the sample 'README' has neither picture nor label: it holds \.md"),
    "no suffix": ([("LICENSE", b"hi")], r"the member 'LICENSE' belongs to no sample: it has no suffix"),
    "a text for a label": ([("9.png", GOOD[0][1]), ("9.cls", b"cat")], r"the label 'cat', which is no whole number"),
    "a fraction": ([("9.png", GOOD[0][1]), ("9.cls", b"1.0")], r"the label '1\.0', which is no whole number"),
    "an underscore": ([("9.png", GOOD[0][1]), ("9.cls", b"1_0")], r"the label '1_0', which is no whole number"),
    "a huge label": ([("9.png", GOOD[0][1]), ("9.cls", b"9" * 30)], r"the label '9{30}', which is no whole number"),
    "an empty label": ([("9.png", GOOD[0][1]), ("9.cls", b"")], r"the label '', which is no whole number"),
    "true in json": ([("9.png", GOOD[0][1]), ("9.json", b'{"label": true}')], r"label 'True' in its \.json"),
    "a fraction in json": ([("9.png", GOOD[0][1]), ("9.json", b'{"cls": 1.5}')], r"label '1\.5' in its \.json"),
    "json without": ([("9.png", GOOD[0][1]), ("9.json", b'{"a": 1}')], r"holds neither 'cls' nor 'label'"),
    "json is a list": ([("9.png", GOOD[0][1]), ("9.json", b"[1]")], r"holds neither 'cls' nor 'label'"),
    "broken json": ([("9.png", GOOD[0][1]), ("9.json", b'{"label": ')], r"has a \.json that cannot be read"),
    "deep json": ([("9.png", GOOD[0][1]), ("9.json", b"[" * 200_000)], r"has a \.json that cannot be read"),
    "two in json": ([("9.png", GOOD[0][1]), ("9.json", b'{"cls": 1, "label": 2}')], r"two labels in .*, 1 and 2"),
    "two pictures": ([("9.png", GOOD[0][1]), ("9.jpg", b"x"), ("9.cls", b"1")], r"the sample '9' has two pictures"),
    "the same twice": ([("9.png", GOOD[0][1]), ("9.cls", b"1"), ("9.cls", b"2")], r"has two members \.cls"),
    "an empty picture": ([("9.png", b""), ("9.cls", b"1")], r"has a picture of 0 bytes"),
    "absolute": ([("/etc/9.png", b"x")], r"the member '/etc/9\.png' has an absolute name"),
    "upwards": ([("a/../../9.png", b"x")], r"the member 'a/\.\./\.\./9\.png' has '\.\.' in its name"),
    "symbolic link": ([member("9.png", tarfile.SYMTYPE, "/etc/passwd")], r"'9\.png' is a symbolic link"),
    "hard link": ([member("9.png", tarfile.LNKTYPE, "0000.png")], r"'9\.png' is a hard link"),
    "device": ([member("9.png", tarfile.CHRTYPE)], r"'9\.png' is no ordinary file"),
    "pipe": ([member("9.png", tarfile.FIFOTYPE)], r"'9\.png' is no ordinary file"),
    "unknown type": ([member("9.png", b"Q")], r"'9\.png' is no ordinary file"),
    "a line break": ([("9\n.png", b"x")], r"'9\\n\.png' has a name that is not printable text"),
    "an escape": ([("\x1b[2J9.png", b"x")], r"'\\x1b\[2J9\.png' has a name that is not printable text"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused_or_left_out_by_name(tmp_path, fault):
    members, said = FAULTS[fault]
    path = write_tar(tmp_path / "a.tar", [*GOOD[:2], *members, *GOOD[2:]])
    with pytest.raises(
        DataError, match=rf"(?s)a\.tar has 1 fault in 1 shard, [01] samples? known .*: a\.tar: .*{said}.*'leave out'"
    ):
        load_data(path)
    source = left_out(path)
    assert everything(source).ids == ["0000", "0001"]
    assert source.labels().tolist() == [0, 2]
    assert len(source.left_out) == 1 and source.left_out[0].startswith("a.tar: ")
    assert sorted(os.listdir(tmp_path)) == ["a.tar"]


def test_faults_are_counted_over_all_shards(tmp_path):
    for shard in range(3):
        lonely = [(f"x{n}.cls", b"1") for n in range(3 * shard)]
        write_tar(tmp_path / f"{shard}.tar", [*samples(2 * shard, 2), *lonely])
    with pytest.raises(
        DataError, match=r"9 faults in 2 shards, 9 samples known to be lost, 6 whole: 1\.tar: .*; and 4 more"
    ):
        load_data(str(tmp_path / "{0..2}.tar"))
    assert len(left_out(str(tmp_path / "{0..2}.tar")).left_out) == 9


def test_a_name_that_is_no_text(tmp_path):
    path = write_tar(tmp_path / "a.tar", [*GOOD, ("\udcff9.png", b"x")], format=tarfile.GNU_FORMAT)
    assert left_out(path).left_out == ["a.tar: the member '\\udcff9.png' has a name that is not printable text"]


def test_a_sparse_member_is_no_picture(tmp_path):
    info = tarfile.TarInfo("9.png")
    info.size, info.pax_headers = (
        512,
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 15},
    )
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(b"1\n0\n0\n".ljust(512, b"\0")))
    with pytest.raises(DataError, match=r"'9\.png' is a sparse file"):
        load_data(path)


def test_a_huge_label_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_samples, "MAX_LABEL", 10)
    path = write_tar(tmp_path / "a.tar", [*GOOD, ("9.png", GOOD[0][1]), ("9.cls", b"1" + b" " * 10)])
    assert "has a .cls of 11 bytes (at most 10)" in left_out(path).left_out[0]
    monkeypatch.setattr(tar_samples, "MAX_PICTURE", len(GOOD[0][1]) - 1)
    with pytest.raises(DataError, match=r"has a picture of \d+ bytes"):
        load_data(path)


# The file itself: where it ends, and whether it is a tar.


def bodies(path):
    with tarfile.open(path) as tar:
        return {info.name: (info.offset, info.offset_data, info.size) for info in tar}


@pytest.mark.parametrize(
    ("cut", "said", "whole"),
    [
        (lambda at: at["0001.png"][1] + 20, r"ends at byte \d+, within '0001\.png', which goes on to byte \d+", 1),
        (lambda at: at["0001.cls"][1] + 1, r"ends at byte \d+, within '0001\.cls'", 1),
        (lambda at: at["0001.cls"][1] + 2, "without an end marker", 2),  # the padding is missing, no byte of the label
        (lambda at: at["0001.png"][0], "without an end marker", 1),  # between two samples: tarfile would not notice
        (lambda at: at["0001.cls"][0], "without an end marker", 1),
        (lambda at: at["0001.png"][0] + 100, "without an end marker", 1),  # within a header
        (lambda at: at["0001.cls"][0] + 1024, "without an end marker", 2),
        (lambda at: 100, "without an end marker", 0),
        (lambda at: 0, "without an end marker", 0),
    ],
)
def test_every_way_of_being_cut(tmp_path, cut, said, whole):
    path = write_tar(tmp_path / "a.tar", GOOD)
    path.write_bytes(path.read_bytes()[: cut(bodies(path))])
    with pytest.raises(DataError, match=rf"a\.tar: is truncated.*{said}.*Fetch or write the shard again"):
        load_data(path)
    if not whole:
        with pytest.raises(DataError, match="no sample with a picture and a label"):
            left_out(path)
        return
    source = left_out(path)
    assert everything(source).ids == ["0000", "0001"][:whole]
    assert "is truncated" in source.left_out[0]
    begun = cut(bodies(write_tar(tmp_path / "b.tar", GOOD))) > bodies(tmp_path / "b.tar")["0001.png"][1]
    lost = [said for said in source.left_out if "the sample '0001' has" in said]
    assert len(lost) == (begun and whole == 1)  # counted once its first member has begun


@pytest.mark.parametrize("place", [0, 60, 110, 130, 150, 300])
def test_a_corrupt_header_ends_a_shard_and_says_where(tmp_path, place):
    path = write_tar(tmp_path / "a.tar", GOOD)
    at, body = bodies(path)["0001.png"][0], bytearray(path.read_bytes())
    body[at + place] ^= 0x55
    path.write_bytes(body)
    with pytest.raises(DataError, match=rf"corrupt header at byte {at} .*the {len(body) - at} bytes from there on"):
        load_data(path)
    assert everything(left_out(path)).ids == ["0000"]


def test_a_member_that_claims_more_than_the_file_holds(tmp_path):
    info = member("9.png", tarfile.REGTYPE)
    info.size = 1 << 60
    path = tmp_path / "a.tar"
    write_tar(path, GOOD)
    end = bodies(path)["0001.cls"][1] + 512
    path.write_bytes(path.read_bytes()[:end] + info.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    with pytest.raises(DataError, match=rf"within '9\.png', which goes on to byte {(1 << 60) + end + 512}"):
        load_data(path)
    assert len(left_out(path)) == 2


def pax(fields):
    body = b"".join(f"{len(f) + len(v) + 5} {f}={v}\n".encode() for f, v in fields)
    info = member("h", tarfile.XHDTYPE)
    info.size = len(body)
    return info.tobuf() + body.ljust(512, b"\0")


def huge_pax():
    info = member("h", tarfile.XHDTYPE)
    info.size = 1 << 60
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "head", [huge_pax(), pax([("size", "-1536")]), pax([("size", "-9999")]), pax([("size", "-512")])]
)
def test_a_negative_or_huge_size_does_not_turn_the_scan_round(tmp_path, head):
    path = write_tar(tmp_path / "a.tar", GOOD)
    end = bodies(path)["0001.cls"][1] + 512
    path.write_bytes(path.read_bytes()[:end] + head + member("9.png", tarfile.REGTYPE).tobuf() + bytes(10240))
    assert "corrupt header" in left_out(path).left_out[0]


def test_a_long_chain_of_headers_is_damage_not_a_crash(tmp_path):
    path = write_tar(tmp_path / "a.tar", GOOD)
    end = bodies(path)["0001.cls"][1] + 512
    path.write_bytes(path.read_bytes()[:end] + pax([("comment", "xx")]) * 5000 + bytes(10240))
    source = left_out(path)
    assert len(source) == 2 and "corrupt header" in source.left_out[0]


def test_what_stands_behind_the_end_marker_is_not_passed_over(tmp_path):
    path = write_tar(tmp_path / "a.tar", GOOD)
    path.write_bytes(path.read_bytes() + write_tar(tmp_path / "b.tar", samples(5, 1)).read_bytes())
    with pytest.raises(DataError, match=r"goes on after its end marker at byte \d+ .*several tars"):
        load_data(path)


@pytest.mark.parametrize(
    ("name", "pack", "kind"),
    [("a.tar.gz", gzip.compress, "gzip"), ("a.tar", gzip.compress, "gzip"), ("a.tgz", gzip.compress, "gzip"),
     ("a.tar.bz2", bz2.compress, "bzip2"), ("a.tar.xz", lzma.compress, "xz")],
)  # fmt: skip
def test_compressed_tars_are_to_be_decompressed(tmp_path, name, pack, kind):
    body = write_tar(tmp_path / "plain.tar", GOOD).read_bytes()
    (tmp_path / name).write_bytes(pack(body))
    with pytest.raises(DataError, match=rf"is compressed \({kind}\).*Decompress it"):
        load_data(tmp_path / name)


def test_what_is_no_tar_or_holds_nothing(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"hello " * 1000)
    with pytest.raises(DataError, match="corrupt header at byte 0"):
        load_data(tmp_path / "a.tar")
    with pytest.raises(DataError, match=r"no sample with a picture and a label in .*b\.tar"):
        load_data(write_tar(tmp_path / "b.tar", []))


# Pictures that do not decode.


def with_a_broken_picture(path, body=b"not a picture", before=3):
    return write_tar(path, [*samples(0, before), ("bad.png", body), ("bad.cls", b"1"), *samples(before, 2)])


def test_a_picture_that_does_not_decode_is_named_when_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("potemkin.data.shards._MEASURED", 2)
    source = load_data(with_a_broken_picture(tmp_path / "a.tar"))
    with pytest.raises(
        DataError, match=r"'bad' in a\.tar cannot be read as a picture.*'leave out' and decode_check=True"
    ):
        everything(source)
    assert next(source.batches(9, [0, 4])).ids == ["0000", "0003"]


@pytest.mark.parametrize("body", [b"not a picture", GOOD[0][1][:-30]])
def test_decode_check_finds_it_at_opening(tmp_path, body):
    path = with_a_broken_picture(tmp_path / "a.tar", body)
    with pytest.raises(
        DataError, match=r"1 fault in 1 shard, 1 sample known to be lost, 5 whole: a\.tar: the sample 'bad' cannot"
    ):
        ShardSource([path], "x", decode_check=True)
    source = left_out(path, decode_check=True)
    assert everything(source).ids == ["0000", "0001", "0002", "0003", "0004"]
    assert source.labels().tolist() == [0, 2, 4, 6, 8]
    assert len(source.left_out) == 1 and source.left_out[0].startswith("a.tar: the sample 'bad' cannot be read")


def test_without_decode_check_what_is_seen_at_opening_is_refused(tmp_path):
    path = with_a_broken_picture(tmp_path / "a.tar")
    for source in (load_data, left_out):
        with pytest.raises(DataError, match=r"'bad' in a\.tar cannot be read as a picture.*decode_check=True"):
            source(path)


def test_another_size_is_found_when_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("potemkin.data.shards._MEASURED", 2)
    source = load_data(with_a_broken_picture(tmp_path / "a.tar", png(PICTURES[0, :3])))
    with pytest.raises(DataError, match=r"different sizes: 'bad' in a\.tar is 4x3 .* is 4x5.*image_size=S"):
        everything(source)


# To the workers and back.


class Rows(Dataset):
    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    def __getitem__(self, place):
        batch = next(self.source.batches(1, [place]))
        return batch.inputs[0], batch.labels[0]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_two_workers_read_what_one_process_reads(three, start):
    source = load_data(three)
    whole = everything(source)  # opens the files here, so that a fork inherits them
    loader = DataLoader(Rows(source), batch_size=5, num_workers=2, multiprocessing_context=start)
    inputs, labels = zip(*loader, strict=True)
    assert torch.equal(torch.cat(inputs), whole.inputs)
    assert torch.equal(torch.cat(labels), whole.labels)


def test_a_pickle_holds_no_open_file_and_reads_the_same(three):
    source = load_data(three)
    whole = everything(source)
    assert len(source._files._open) == 3
    again = ForkingPickler.loads(ForkingPickler.dumps(source))
    assert len(again._files._open) == 0 and len(source._files._open) == 3
    assert torch.equal(everything(again).inputs, whole.inputs)
    assert again.fingerprint() == source.fingerprint()


def open_files():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc to count open files in")
def test_at_most_so_many_files_are_open_and_none_is_left(tmp_path):
    assert files.MAX_OPEN == 64
    paths = [tmp_path / str(n) for n in range(9)]
    for n, path in enumerate(paths):
        path.write_bytes(bytes([n]) * 10)
    before = open_files()
    pieces = OpenFiles(paths, limit=3)
    for n in [*range(9), *reversed(range(9)), 0, 8, 0, 8]:
        assert pieces.read(n, n, 1) == bytes([n])
        assert open_files() <= before + 3
    # Forked processes share the place in an inherited file: reading may not move it.
    assert {os.lseek(handle.descriptor, 0, os.SEEK_CUR) for handle in pieces._open.values()} == {0}
    assert list(pieces._open) == [1, 0, 8]  # the one used longest ago goes first
    del pieces
    assert open_files() == before


def test_a_file_that_changes_after_the_scan_is_noticed(three):
    source = load_data(three)
    again = ForkingPickler.loads(ForkingPickler.dumps(source))
    path = Path(three.replace("{00..02}", "01"))
    body = path.read_bytes()
    path.write_bytes(body[:600])
    with pytest.raises(DataError, match=r"s-01\.tar was changed after it had been indexed: open the data again"):
        everything(again)
    with pytest.raises(DataError, match=r"s-01\.tar ends at byte 600: it was cut after"):
        everything(source)
    path.unlink()
    with pytest.raises(DataError, match=r"s-01\.tar cannot be read: No such file"):
        everything(ForkingPickler.loads(ForkingPickler.dumps(again)))


# Names: ranges in braces, the notation, classes.json.


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a{0..2}", ["a0", "a1", "a2"]),
        ("a{08..10}", ["a08", "a09", "a10"]),
        ("a{8..10}", ["a8", "a9", "a10"]),
        ("a{000..2}", ["a000", "a001", "a002"]),
        ("b{0..1}c{1..2}", ["b0c1", "b0c2", "b1c1", "b1c2"]),
        ("a0", ["a0"]),
        ("{x}", ["{x}"]),
    ],
)
def test_ranges_in_braces(tmp_path, pattern, names):
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in expand(tmp_path / pattern)] == names


@pytest.mark.parametrize(
    ("pattern", "kind", "said"),
    [
        ("s-{00..04}.tar", DataError, r"2 of the 5 files .* are missing: 's-03\.tar', 's-04\.tar'\. Fetch"),
        ("s-{02..03}.tar", DataError, r"1 of the 2 files .* is missing: 's-03\.tar'"),
        ("s-{000000..099999}.tar", DataError, "100000 of the 100000 files .* and 99995 more"),
        ("s-{000000..100000}.tar", ConfigError, "names 100001 files, at most 100000"),
        ("{0..99999}{0..99999}.tar", ConfigError, "names 10000000000 files"),
        ("s-{02..00}.tar", ConfigError, r"goes backwards: write \{00\.\.02\}"),
        ("s-{00,01}.tar", ConfigError, "are no range"),
        ("s-{00..02..2}.tar", ConfigError, "are no range"),
        ("s-{00..02.tar", ConfigError, "are no range"),
        ("s-{0..9999999999999}.tar", ConfigError, "are no range"),
        ("s-{0..2}.npz", ConfigError, r"is for \.tar shards and \.parquet files"),
        ("none.tar", DataError, "no such file or folder"),
    ],
)
def test_wrong_ranges(three, pattern, kind, said):
    with pytest.raises(kind, match=said):
        load_data(str(Path(three).parent / pattern))


def test_notation_round_trip_and_options(three, tmp_path):
    spec = f"shards({three!r}, image_size=3, faulty='leave out', decode_check=True)"
    recipe = parse(spec, kind="data")
    assert recipe == shards(three, image_size=3, faulty="leave out", decode_check=True)
    assert repr(recipe) == spec and parse(repr(recipe), kind="data") == recipe
    source = load_data(spec)
    assert (len(source), source.input_shape) == (12, (3, 3, 3))
    assert str(tmp_path.parent) not in source.name and source.name.startswith("shards('")
    write_tar(tmp_path / "s-03.tar", [("9.cls", b"1"), *samples(0, 1)])
    pattern = str(tmp_path / "s-{00..03}.tar")
    assert load_data(f"shards({pattern!r}, faulty='leave out')").left_out[0].startswith("s-03.tar: the sample '9'")
    with pytest.raises(DataError, match="1 fault"):
        load_data(f"shards({pattern!r})")
    with pytest.raises(DataError, match="There is no file"):
        load_data("shards('no/such.tar')")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"faulty": "skip"}, "faulty must be one of 'refuse', 'leave out'"), ({"decode_check": 1}, "decode_check must be"),
     ({"image_size": 0}, "image_size must be"), ({"image_size": 2.5}, "image_size must be")],
)  # fmt: skip
def test_wrong_arguments(three, arguments, said):
    for make in (lambda: shards(three, **arguments), lambda: ShardSource(expand(three), "x", **arguments)):
        with pytest.raises(ConfigError, match=said):
            make()


@pytest.mark.parametrize(
    "held", [["ant", "bee", "cat"], [{"index": n, "name": name} for n, name in enumerate(("ant", "bee", "cat"))]]
)
def test_classes_stand_beside_the_shards(tmp_path, held):
    path = write_tar(tmp_path / "a.tar", samples(0, 2))
    (tmp_path / "classes.json").write_text(json.dumps(held))
    source = load_data(path)
    assert (source.classes, source.class_names) == (3, ["ant", "bee", "cat"])
    write_tar(path, samples(1, 2))
    with pytest.raises(DataError, match="go up to 4, but with 3 classes"):
        load_data(path)


@pytest.mark.parametrize("held", ["{}", "[]", "[1, 2]", '["a", 2]', '[{"index": 1, "name": "a"}]', "[", '{"a": 0}'])
def test_a_list_of_classes_that_is_none(tmp_path, held):
    (tmp_path / "classes.json").write_text(held)
    with pytest.raises(DataError, match=r"classes\.json (is no list of class names|cannot be read as JSON)"):
        load_data(write_tar(tmp_path / "a.tar", samples(0, 1)))


def test_labels_below_zero(tmp_path):
    with pytest.raises(DataError, match=r"include -1 .*counted from 0"):
        load_data(write_tar(tmp_path / "a.tar", [*GOOD, ("9.png", GOOD[0][1]), ("9.cls", b"-1")]))
