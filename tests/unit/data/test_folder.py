"""Image folders: classes, ids, decoding, sizes, and every kind of file that must not pass."""

import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from potemkin.data import images
from potemkin.data.load import load_data
from potemkin.errors import ConfigError, DataError
from unit.data.builders import pixels, write_folder, write_picture


def everything(source):
    (batch,) = source.batches(len(source))
    return batch


def test_labels_are_ranks_and_ids_are_relative_paths(tmp_path):
    source = load_data(write_folder(tmp_path / "pets"))
    assert (len(source), source.input_shape, source.classes) == (4, (3, 6, 5), 2)
    assert source.class_names == ["ant", "bee"]
    assert source.labels().tolist() == [0, 0, 1, 1]
    batch = everything(source)
    assert batch.ids == ["ant/0.png", "ant/1.png", "bee/0.png", "bee/1.png"]
    assert batch.labels.tolist() == [0, 0, 1, 1]
    expected = np.concatenate([pixels(2, 6, 5, 3, seed=label) for label in (0, 1)]).transpose(0, 3, 1, 2)
    assert np.array_equal(batch.inputs.numpy(), expected.astype(np.float32) / np.float32(255))
    (some,) = source.batches(9, [3, 0])
    assert some.ids == ["bee/1.png", "ant/0.png"]
    assert torch.equal(some.inputs, batch.inputs[[3, 0]])


def test_order_does_not_depend_on_the_file_system(tmp_path):
    for name in ("b", "a", "C"):
        for file in ("2.png", "10.png", "1.png"):
            write_picture(tmp_path / name / file, pixels(1, 4, 4)[0])
    source = load_data(tmp_path)
    assert source.class_names == ["C", "a", "b"]
    assert everything(source).ids[:4] == ["C/1.png", "C/10.png", "C/2.png", "a/1.png"]


def test_all_grey_pictures_have_one_channel_and_mixed_ones_three(tmp_path):
    grey, colour = pixels(1, 4, 4)[0], pixels(1, 4, 4, 3)[0]
    write_picture(tmp_path / "a" / "1.png", grey)
    write_picture(tmp_path / "b" / "1.png", grey)
    assert load_data(tmp_path).input_shape == (1, 4, 4)
    assert np.array_equal(everything(load_data(tmp_path)).inputs[0, 0].numpy() * 255, grey)
    write_picture(tmp_path / "b" / "2.png", colour)
    batch = everything(load_data(tmp_path))
    assert batch.inputs.shape == (3, 3, 4, 4)
    assert np.array_equal(batch.inputs[0].numpy() * 255, np.stack([grey] * 3))


@pytest.mark.parametrize(
    ("file", "options"), [("1.png", {}), ("1.bmp", {}), ("1.webp", {"lossless": True}), ("1.PNG", {"format": "PNG"})]
)
def test_lossless_formats(tmp_path, file, options):
    colour = pixels(1, 8, 8, 3)[0]
    write_picture(tmp_path / "a" / file, colour, **options)
    assert np.array_equal(everything(load_data(tmp_path)).inputs[0].numpy() * 255, colour.transpose(2, 0, 1))


def test_jpeg_as_pillow_decodes_it(tmp_path):
    path = write_picture(tmp_path / "a" / "1.jpg", pixels(1, 16, 16, 3)[0], quality=90)
    with Image.open(path) as image:
        expected = np.asarray(image).transpose(2, 0, 1)
    assert np.array_equal(everything(load_data(tmp_path)).inputs[0].numpy() * 255, expected)


def test_gif_gives_its_first_frame(tmp_path):
    frames = [Image.new("L", (4, 4), value) for value in (200, 10, 20)]
    (tmp_path / "a").mkdir()
    frames[0].save(tmp_path / "a" / "1.gif", save_all=True, append_images=frames[1:])
    assert (everything(load_data(tmp_path)).inputs * 255 == 200).all()


def test_opaque_alpha_is_dropped_and_cmyk_converted(tmp_path):
    colour = pixels(1, 4, 4, 3)[0]
    opaque = np.concatenate([colour, np.full((4, 4, 1), 255, np.uint8)], axis=2)
    write_picture(tmp_path / "a" / "1.png", opaque)
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "a" / "2.jpg")
    batch = everything(load_data(tmp_path))
    assert np.array_equal(batch.inputs[0].numpy() * 255, colour.transpose(2, 0, 1))
    assert batch.inputs.shape == (2, 3, 4, 4)


def test_hidden_files_and_files_beside_the_classes_are_left_out(tmp_path):
    write_folder(tmp_path)
    for path in (".git/1.png", "ant/.DS_Store", "ant/._0.png", "bee/Thumbs.db"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    (tmp_path / "classes.json").write_text("{}")
    assert len(load_data(tmp_path)) == 4


def test_an_empty_class_holds_its_rank(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "auk").mkdir()
    source = load_data(tmp_path)
    assert source.class_names == ["ant", "auk", "bee"]
    assert source.labels().tolist() == [0, 0, 2, 2]


@pytest.mark.parametrize(("height", "width"), [(20, 10), (10, 20), (10, 10), (5, 7), (8, 8)])
def test_image_size_resizes_the_short_side_and_crops_the_centre(tmp_path, height, width):
    write_picture(tmp_path / "a" / "1.png", pixels(1, height, width, 3)[0])
    write_picture(tmp_path / "a" / "2.png", pixels(1, 9, 30, 3)[0])
    source = load_data(tmp_path, image_size=8)
    assert source.input_shape == (3, 8, 8)
    scaled = (8 * width // min(height, width), 8 * height // min(height, width))
    with Image.open(tmp_path / "a" / "1.png") as image:
        whole = np.asarray(image.resize(scaled, Image.Resampling.BILINEAR))
    top, left = round((whole.shape[0] - 8) / 2), round((whole.shape[1] - 8) / 2)
    expected = whole[top : top + 8, left : left + 8].transpose(2, 0, 1)
    assert np.array_equal(everything(source).inputs[0].numpy() * 255, expected)


def test_different_sizes_are_refused_at_once(tmp_path):
    write_folder(tmp_path)
    write_picture(tmp_path / "bee" / "2.png", pixels(1, 7, 9, 3)[0])
    with pytest.raises(DataError, match=r"bee/2\.png is 9x7 .*ant/0\.png, is 5x6.*image_size=S"):
        load_data(tmp_path)


def test_what_the_first_look_missed_is_found_when_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("potemkin.data.folder._MEASURED", 2)  # the first and the last
    grey = pixels(1, 4, 4)[0]
    for name in ("1.png", "2.png", "4.png"):
        write_picture(tmp_path / "a" / name, grey)
    write_picture(tmp_path / "a" / "3.png", pixels(1, 5, 4)[0])
    source = load_data(tmp_path)
    with pytest.raises(DataError, match=r"different sizes: a/3\.png is 4x5"):
        everything(source)
    write_picture(tmp_path / "a" / "3.png", pixels(1, 4, 4, 3)[0])
    with pytest.raises(DataError, match=r"a/3\.png is a colour picture"):
        everything(source)


def broken_png(tmp_path):
    path = write_folder(tmp_path) / "bee" / "0.png"
    path.write_bytes(path.read_bytes()[:60])


def text_as_png(tmp_path):
    (write_folder(tmp_path) / "bee" / "0.png").write_text("not a picture")


def tiff_as_png(tmp_path):
    Image.fromarray(pixels(1, 6, 5, 3)[0]).save(write_folder(tmp_path) / "bee" / "0.png", format="TIFF")


def eps_as_png(tmp_path):
    (write_folder(tmp_path) / "bee" / "0.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 5\n%%EOF\n")


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(tmp_path, side=20_000):
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(side + 1) * 10)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    (write_folder(tmp_path) / "bee" / "0.png").write_bytes(content)


def sixteen_bits(tmp_path):
    write_picture(write_folder(tmp_path) / "bee" / "0.png", np.full((6, 5), 300, np.uint16))


def transparent(tmp_path):
    write_picture(write_folder(tmp_path) / "bee" / "0.png", pixels(1, 6, 5, 4)[0])


def transparent_palette(tmp_path):
    image = Image.new("P", (5, 6), 3)
    image.putpalette(list(range(256)) * 3)
    image.save(write_folder(tmp_path) / "bee" / "0.png", transparency=3)


def no_picture_in_a_class(tmp_path):
    (write_folder(tmp_path) / "bee" / "notes.txt").write_text("hello")


def folder_in_a_class(tmp_path):
    write_folder(write_folder(tmp_path) / "bee")


def one_level_too_high(tmp_path):
    for part in ("train", "test"):
        write_folder(tmp_path / part)


def two_levels_too_high(tmp_path):
    write_folder(tmp_path / "birds" / "train")


def picture_beside_the_classes(tmp_path):
    write_picture(write_folder(tmp_path) / "stray.png", pixels(1, 6, 5, 3)[0])


def pictures_without_classes(tmp_path):
    write_picture(tmp_path / "1.png", pixels(1, 6, 5, 3)[0])


def nothing(tmp_path):
    pass


def empty_classes(tmp_path):
    (tmp_path / "ant").mkdir()


def dangling_link(tmp_path):
    (write_folder(tmp_path) / "bee" / "9.png").symlink_to(tmp_path / "nowhere.png")


def pipe(tmp_path):
    os.mkfifo(write_folder(tmp_path) / "bee" / "9.png")


def name_with_a_line_break(tmp_path):
    write_picture(write_folder(tmp_path) / "bee" / "9\n.png", pixels(1, 6, 5, 3)[0])


def name_that_is_no_text(tmp_path):
    source = write_folder(tmp_path) / "bee" / "0.png"
    os.rename(source, os.fsencode(source.parent) + b"/\xff\xfe.png")


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (broken_png, r"bee/0\.png cannot be read as a picture .*replace it or move it away"),
        (text_as_png, r"bee/0\.png cannot be read as a picture"),
        (tiff_as_png, r"bee/0\.png cannot be read as a picture .*PNG, JPEG, BMP, WEBP, GIF"),
        (eps_as_png, r"bee/0\.png cannot be read as a picture"),
        (bomb, r"bee/0\.png (is too large a picture|has 20000x20000 pixels)"),
        (sixteen_bits, r"bee/0\.png has pixels of mode I.*16-bit"),
        (transparent, r"bee/0\.png has transparent pixels"),
        (transparent_palette, r"bee/0\.png has transparent pixels"),
        (no_picture_in_a_class, r"bee/notes\.txt in .* is no picture"),
        (folder_in_a_class, r"bee/ant in .* is a folder inside a class: expected pictures only\. Move it away\.$"),
        (one_level_too_high, r"test/ant in .* one level too high\? Then give \S+/test or \S+/train; else move it away"),
        (two_levels_too_high, r"birds/train in .* one level too high\? Then give \S+/birds;"),
        (picture_beside_the_classes, r"pictures beside its class subfolders \(stray\.png, 1 in all\)"),
        (pictures_without_classes, "1 picture but no subfolder: expected one subfolder per class"),
        (nothing, "has no subfolder: expected one subfolder per class"),
        (empty_classes, "has 1 class subfolder, but no picture in them"),
        (dangling_link, r"bee/9\.png in .* is no ordinary file, or a link that leads nowhere"),
        (pipe, r"bee/9\.png in .* is no ordinary file"),
        (name_with_a_line_break, r"'9\\n\.png' .* not printable text"),
        (name_that_is_no_text, "not printable text"),
    ],
)
def test_refused(tmp_path, build, said):
    try:
        build(tmp_path)
    except OSError as error:
        pytest.skip(f"this file system cannot hold such a file: {error}")
    with pytest.raises(DataError, match=said):
        everything(load_data(tmp_path))


def test_a_smaller_bomb_is_stopped_by_our_own_limit_even_if_pillows_is_off(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    bomb(tmp_path, side=9000)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=rf"9000x9000 pixels, at most {images.MAX_PIXELS}"):
            everything(load_data(tmp_path))
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_a_thin_strip_does_not_explode_when_resized(tmp_path):
    write_picture(tmp_path / "a" / "1.png", pixels(1, 1, 100_000, 3)[0])
    with pytest.raises(DataError, match=r"a/1\.png is 100000x1; with image_size=64 .* too large"):
        everything(load_data(tmp_path, image_size=64))


@pytest.mark.parametrize("size", [0, -5, 2.5, True, "64"])
def test_wrong_image_sizes(tmp_path, size):
    with pytest.raises(ConfigError, match="image_size must be an integer of at least 1"):
        load_data(write_folder(tmp_path), image_size=size)


def test_a_folder_of_files_names_them(tmp_path: Path) -> None:
    for name in ("train.npz", "test.npz", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"no subfolder.*Did you mean .*test\.npz or .*train\.npz\?"):
        load_data(tmp_path)
