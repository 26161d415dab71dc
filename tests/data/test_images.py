"""Images as they lie in people's folders: hidden, turned, transparent, of many bits, without classes."""

import json
import shutil
import struct
import sys
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dampen import InputError, load
from dampen.cli import main
from dampen.study import load_study

RNG = np.random.default_rng(0)
GREY, COLOUR = (8, 6), (8, 6, 3)


def bytes_of(shape=GREY, top=256):
    return RNG.integers(0, top, shape, dtype=np.uint8 if top <= 256 else np.uint16)


def pets(folder, n=12, classes=("cat", "dog"), image=bytes_of, ending="png"):
    """Write `n` images of each class; return them in the order of the files' names."""
    arrays = []
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            arrays.append(image())
            Image.fromarray(arrays[-1]).save(folder / name / f"{i:02d}.{ending}")
    return np.stack(arrays)


def pixels(folder, **options):
    return load(folder, **options).features.numpy()


def test_what_systems_and_notebooks_leave_is_no_image_and_is_counted(tmp_path):
    arrays = pets(tmp_path)
    image = tmp_path / "cat" / "00.png"
    for hidden in (".ipynb_checkpoints", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "cat/.ipynb_checkpoints", "dog/@eaDir"):
        (tmp_path / hidden).mkdir()
        shutil.copy(image, tmp_path / hidden / "1.png")
    shutil.copy(image, tmp_path / "cat" / ".hidden.png")
    (tmp_path / "dog" / "._00.png").write_bytes(b"\0\5\x16\7")
    for other in ("cat/Thumbs.db", "desktop.ini", "dog/desktop.ini", "dog/.DS_Store"):
        (tmp_path / other).write_text("of the system")
    (tmp_path / "dog" / "notes.txt").write_text("of a person")
    data = load(tmp_path)
    np.testing.assert_array_equal(data.features[:, 0], arrays)
    assert data.classes == ("cat", "dog")
    assert data.notes == (
        "8 hidden images (.name, __MACOSX) ignored",
        "1 file of other kinds (.txt) ignored",
    )


TURNS = {  # what a viewer shows of stored pixels, by EXIF orientation
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_turned_photos_are_shown_upright_and_keep_their_size(tmp_path, ending):
    shown = []
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for turn, upright in TURNS.items():
            stored = bytes_of(COLOUR if turn < 5 else (6, 8, 3))
            shown.append(upright(stored))
            exif = Image.Exif()
            exif[0x112] = turn
            Image.fromarray(stored).save(tmp_path / name / f"{turn}.{ending}", exif=exif, lossless=True)
    data = load(tmp_path)
    assert data.notes == ()
    np.testing.assert_array_equal(data.features.numpy(), np.stack(shown).transpose(0, 3, 1, 2))


def test_turned_photos_are_turned_before_they_are_resized(tmp_path):
    for name, tall in (("cat", False), ("dog", True)):
        (tmp_path / name).mkdir()
        for i in range(8):
            array = bytes_of((20, 10, 3))
            exif = Image.Exif()
            exif[0x112] = 6 if tall else 1
            Image.fromarray(np.rot90(array) if tall else array).save(tmp_path / name / f"{i}.png", exif=exif)
    data = load(tmp_path, image_size=5)
    assert data.notes == ("images of 1 size (10x20) resized to 5x5 pixels (image size)",)
    plain = Image.fromarray(array).resize((5, 5), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(data.features[-1].numpy(), np.asarray(plain).transpose(2, 0, 1))


def on_white(colour, alpha):
    return np.rint(colour * (alpha / 255) + 255 * (1 - alpha / 255))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_transparency_hides_is_hidden_and_pictures_lie_on_white(tmp_path, mode):
    seen, alpha = bytes_of((12, *GREY, len(mode) - 1)), bytes_of((12, *GREY, 1))
    alpha[:, :4] = 0
    for name, secret in (("cat", 0), ("dog", 255)):
        (tmp_path / name).mkdir()
        for i in range(12):
            colour = np.where(alpha[i] == 0, np.uint8(secret), seen[i])
            array = np.concatenate([colour, alpha[i]], 2)
            Image.fromarray(array, mode).save(tmp_path / name / f"{i:02d}.png")
    data = load(tmp_path)
    assert "24 images with transparent parts laid on white" in data.notes
    assert data.inputs[0] == len(mode) - 1
    assert torch.equal(data.features[:12], data.features[12:])
    expected = on_white(seen.astype(float), alpha.astype(float)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(data.features[:12].numpy(), expected, atol=1)


def test_a_colour_that_is_declared_transparent_is_white_in_palettes_and_without(tmp_path):
    arrays = pets(tmp_path, image=lambda: bytes_of(top=4))
    for i, file in enumerate(sorted(tmp_path.rglob("*.png"))):
        image = Image.fromarray(arrays[i])
        if i % 2:
            image = Image.fromarray(arrays[i], "P")
            image.putpalette([v for k in range(4) for v in (k, k, k)])
        image.save(file, transparency=2)
    found = pixels(tmp_path)
    np.testing.assert_array_equal(found, np.where(arrays == 2, 255, arrays)[:, None].repeat(3, 1))


def test_pictures_whose_pixels_are_all_opaque_are_as_without_alpha_and_nothing_is_told(tmp_path):
    def opaque():
        return np.dstack([bytes_of(COLOUR), np.full(GREY, 255, np.uint8)])

    arrays = pets(tmp_path, image=opaque)
    data = load(tmp_path)
    assert data.notes == ()
    np.testing.assert_array_equal(data.features.numpy(), arrays[..., :3].transpose(0, 3, 1, 2))


def deep_png(array):
    """Return a PNG of 16 bits: grey, grey with alpha, colour or colour with alpha."""
    height, width, *channels = array.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels[0] if channels else 1]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in array)
    found = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")):
        found += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return found


def deep_tiff(array, order, compression=None):
    """Return what saves a grey TIFF of 16 bits."""
    mode = "I;16B" if order == ">" else "I;16"
    image = Image.frombytes(mode, array.shape[::-1], array.astype(f"{order}u2").tobytes())
    return lambda path: image.save(path, compression=compression)


DEEP = {
    "little-endian TIFF": ("tif", lambda a: deep_tiff(a, "<")),
    "big-endian TIFF": ("tif", lambda a: deep_tiff(a, ">")),
    "compressed TIFF": ("tif", lambda a: deep_tiff(a, "<", "tiff_lzw")),
    "PNG": ("png", lambda a: lambda path: path.write_bytes(deep_png(a))),
    "colour PNG": ("png", lambda a: lambda path: path.write_bytes(deep_png(np.dstack([a, a // 2, a // 3])))),
}


@pytest.mark.parametrize("bits", [16, 12, 10])
@pytest.mark.parametrize("kind", DEEP)
def test_images_of_more_than_8_bits_are_scaled_by_the_bits_that_they_use(tmp_path, kind, bits):
    ending, saver = DEEP[kind]
    arrays = RNG.integers(0, 2**bits, (24, *GREY))
    arrays[0, 0, 0] = 2**bits - 1
    for i, array in enumerate(arrays):
        file = tmp_path / ("cat", "dog")[i // 12] / f"{i:02d}.{ending}"
        file.parent.mkdir(exist_ok=True)
        saver(array)(file)
    data = load(tmp_path)
    white = 2**bits - 1
    assert f"24 images of more than 8 bits scaled: {white}, {bits} bits, is white, their" in data.notes[0]
    channels = [arrays, arrays // 2, arrays // 3] if kind == "colour PNG" else [arrays]
    expected = np.floor(np.stack(channels, 1) / white * 255)
    np.testing.assert_allclose(data.features.numpy(), expected, atol=1)
    assert data.reading["image_max"] == white
    assert torch.equal(load(**data.reading).features, data.features)


def test_dark_images_of_many_bits_stay_dark_beside_bright_ones(tmp_path):
    pets(tmp_path, image=lambda: bytes_of(top=300), ending="tif")
    bright = np.full(GREY, 4000, dtype=np.uint16)
    Image.fromarray(bright).save(tmp_path / "cat" / "00.tif")
    means = load(tmp_path).features.float().mean((1, 2, 3))
    assert means[0] == 4000 * 255 // 4095
    assert means[1:].max() < 20


@pytest.mark.parametrize(("top", "white"), [(1.0, 1.0), (200.0, 255.0), (1000.0, 1000.0)])
def test_images_of_fractions_share_one_white(tmp_path, top, white):
    arrays = pets(tmp_path, image=lambda: (RNG.random(GREY) * top * 0.9).astype(np.float32), ending="tif")
    arrays[0, 0, 0] = top
    Image.fromarray(arrays[0]).save(tmp_path / "cat" / "00.tif")
    np.testing.assert_allclose(pixels(tmp_path)[:, 0], np.floor(arrays / white * 255), atol=1)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_images_with_values_that_are_no_brightness_are_named(tmp_path, bad):
    arrays = pets(tmp_path, image=lambda: RNG.random(GREY).astype(np.float32), ending="tif")
    arrays[3, 2, 2] = bad
    Image.fromarray(arrays[3]).save(tmp_path / "cat" / "03.tif")
    with pytest.raises(InputError, match=r"03\.tif is not a readable image \(it holds values that are negative"):
        load(tmp_path)


@pytest.mark.parametrize("split", ["test", "val"])
@pytest.mark.parametrize("inside", ["flat", "unknown", "nothing"])
def test_test_images_without_classes_are_told_and_test_rows_are_drawn_from_the_training_images(tmp_path, inside, split):
    arrays = pets(tmp_path / "train")
    where = tmp_path / split / ("unknown" if inside == "unknown" else "")
    where.mkdir(parents=True)
    if inside != "nothing":
        for i in range(5):
            Image.fromarray(bytes_of()).save(where / f"{i}.png")
    data = load(tmp_path)
    assert (len(data.train_rows), len(data.validation_rows), len(data.test_rows)) == (18, 0, 6)
    np.testing.assert_array_equal(data.features[:, 0], arrays)
    what = "has no images" if inside == "nothing" else "lie in no class folder and are left out"
    rows = {"test": "test", "val": "validation"}[split]
    assert any(what in note and f"{rows} rows are drawn from the training images" in note for note in data.notes)


def test_test_folders_with_classes_beside_the_classes_are_test_rows(tmp_path):
    pets(tmp_path)
    pets(tmp_path / "test", 3)
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert (len(data.train_rows), len(data.test_rows)) == (24, 6)


@pytest.mark.parametrize("classes", [("plane", "train"), ("bus", "test", "train"), ("Training", "walk")])
def test_classes_may_be_called_train_or_test(tmp_path, classes):
    pets(tmp_path, classes=classes)
    data = load(tmp_path)
    assert data.classes == classes
    assert torch.bincount(data.targets).tolist() == [12] * len(classes)
    assert sum("is treated as a class" in note for note in data.notes) == len(
        set(classes) & {"train", "test", "Training"}
    )


def test_grey_and_coloured_images_together_are_told(tmp_path):
    for kind, mode in (("cat", "L"), ("dog", "RGB")):
        (tmp_path / kind).mkdir()
        for i in range(16):
            Image.new(mode, (4, 4), 15 * i if mode == "L" else (15 * i, 9, 0)).save(tmp_path / kind / f"{i}.png")
    mixed = "16 images in grey converted to colour, in three equal channels"
    alone = "a network can separate these classes by that alone"
    data = load(tmp_path)
    assert data.inputs == (3, 4, 4)
    assert data.notes == (mixed, f"nearly all images of 'cat' are grey, and of 'dog' in colour: {alone}")
    for i in range(8):
        (tmp_path / "cat" / f"{i}.png").rename(tmp_path / "dog" / f"grey{i}.png")
        (tmp_path / "dog" / f"{i}.png").rename(tmp_path / "cat" / f"colour{i}.png")
    assert load(tmp_path).notes == (mixed,)


def test_what_is_no_image_is_named_with_what_is_read(tmp_path):
    for kind in ("cat", "dog"):
        (tmp_path / kind).mkdir()
        for name in ("a.jp2", "b.npy", "c"):
            (tmp_path / kind / name).write_bytes(b"x")
        (tmp_path / kind / "d.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(
        InputError, match=r"2 \.jp2, 2 without an ending, 2 \.npy, 2 links to nothing, and images end in \.png, "
    ):
        load(tmp_path)
    for kind in ("cat", "dog"):
        for i in range(8):
            Image.new("L", (4, 4), 9 * i + len(kind)).save(tmp_path / kind / f"{i}.png")
    assert "2 links to nothing ignored" in load(tmp_path).notes


@pytest.mark.parametrize("folder", [".", "train"])
def test_a_folder_without_images_is_no_class_and_told(tmp_path, folder):
    pets(tmp_path / folder)
    (tmp_path / folder / "bird").mkdir()
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert [note for note in data.notes if "bird has no images: no class" in note]


@pytest.mark.parametrize(
    ("classes", "line"),
    [
        (("train", "test"), "train, test|test, train of .* hold images without a folder for each class"),
        (("cat",), "has 1 subfolder with images; a folder for each class is needed, two or more"),
        ((".",), "has 0 subfolders with images and 12 images beside them; a folder for each class is needed"),
        ((), "holds no images, and none of the four IDX files"),
    ],
)
def test_folders_that_tell_no_classes_are_one_line(tmp_path, classes, line):
    pets(tmp_path, classes=classes) if classes else None
    with pytest.raises(InputError, match=line) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_all_damaged_images_are_named_at_once(tmp_path):
    pets(tmp_path)
    for name in ("cat/01.png", "cat/02.png", "dog/07.png"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:60])
    with pytest.raises(InputError, match="3 files are not readable images: ") as caught:
        load(tmp_path)
    assert all(f"{name} (" in str(caught.value) for name in ("01.png", "02.png", "07.png"))


def test_an_image_that_would_unfold_into_gigabytes_is_named_before(tmp_path):
    pets(tmp_path)
    lines = zlib.compress(b"\0" * 2_000_000, 9)
    content = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    for name, part in ((b"IHDR", header), (b"IDAT", lines), (b"IEND", b"")):
        content += struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
    (tmp_path / "cat" / "bomb.png").write_bytes(content)
    with pytest.raises(InputError, match=r"bomb\.png is not a readable image \(.*pixels"):
        load(tmp_path)


def test_only_formats_of_the_known_endings_are_decoded(tmp_path):
    pets(tmp_path)
    (tmp_path / "cat" / "00.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\nshowpage\n")
    with pytest.raises(InputError, match=r"00\.png is not a readable image \(no known format\)"):
        load(tmp_path)


def test_the_first_frame_of_an_animation_is_taken_and_told(tmp_path):
    pets(tmp_path)
    frames = [Image.fromarray(np.full(GREY, v, dtype=np.uint8)) for v in (10, 200)]
    frames[0].save(tmp_path / "cat" / "00.gif", save_all=True, append_images=frames[1:])
    data = load(tmp_path)
    assert "1 image of several frames: the first one is taken" in data.notes
    assert (data.features[0] == 10).all()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Hold a study of 12-bit images of two classes, and the images."""
    where = tmp_path_factory.mktemp("study")
    arrays = pets(where / "pets", 16, image=lambda: bytes_of(top=4096), ending="tif")
    words = ("--settings", 2, "--seeds", 1, "--epochs", 2, "--confirmed", 1, "--confirm-seeds", 2, "--hidden", "8")
    before, sys.argv = sys.argv, ["dampen", "tune", *map(str, (where / "pets", *words, "--out", where / "study"))]
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = before
    assert not ended.value.code
    return where, arrays


def predicted(run, study, folder, *words):
    code, out, err = run("predict", study / "study", folder, "--samples", 0, "--json", *words)
    assert code == 0, err
    document = json.loads(out)
    return pd.DataFrame(document["predictions"]), document, err


@pytest.mark.parametrize("kind", ["flat", "one image", "one class", "a class's folder", "other names"])
def test_new_images_are_predicted_all_of_them_with_no_need_of_classes(run, study, tmp_path, kind):
    where, arrays = study
    folder = {"one class": "new/cat", "other names": "new/a"}.get(kind, "new")
    for i in range(1 if kind == "one image" else 5):
        to = tmp_path / (folder if i < 3 or kind != "other names" else "new/b") / f"{i}.tif"
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(where / "pets" / "cat" / f"{i:02d}.tif", to)
    (tmp_path / "new" / ".hidden.tif").write_text("no image")
    asked = {"one image": "new/0.tif", "a class's folder": "new"}.get(kind, "new")
    rows, document, _ = predicted(run, where, tmp_path / asked)
    n = 1 if kind == "one image" else 5
    assert rows["row"].tolist() == list(range(n))
    assert [file.split("/")[-1] for file in rows["file"]] == [f"{i}.tif" for i in range(n)]
    assert "target" not in rows
    assert document["summary"] is None
    network = load_study(where / "study").model()
    scaled = np.floor(arrays[:n, None] / np.float32(4095) * 255) / 255
    with torch.no_grad():
        logits = network(torch.from_numpy((scaled - 0.5) / 0.5).float())
    assert rows["prediction"].tolist() == [("cat", "dog")[c] for c in logits.argmax(1)]


def test_a_few_images_by_class_are_predicted_all_and_judged(run, study, tmp_path):
    where, _ = study
    for name in ("cat", "dog", "bird"):
        for i in range(3):
            to = tmp_path / "new" / name / f"{i}.tif"
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(where / "pets" / "dog" / f"{i:02d}.tif", to)
    rows, document, err = predicted(run, where, "new")
    assert rows["target"].fillna("").tolist() == [""] * 3 + ["cat"] * 3 + ["dog"] * 3
    assert document["summary"]["n"] == 6
    judged = rows[3:]
    assert document["summary"]["accuracy"] == (judged["target"] == judged["prediction"]).mean()
    assert "3 images in folders that are no class of the study ('bird'): not evaluated" in err
    assert run("trust", where / "study", "new", "--samples", 0)[0] == 0


def test_new_images_of_another_kind_are_brought_to_the_study_s(run, study, tmp_path):
    (tmp_path / "new").mkdir()
    Image.fromarray(bytes_of((40, 30, 3))).save(tmp_path / "new" / "photo.jpg")
    rows, document, _ = predicted(run, study[0], "new")
    assert len(rows) == 1
    assert "images of 1 size (30x40) resized to 6x8 pixels (image size)" in document["notes"]
    assert "1 image in colour converted to grey" in document["notes"]


def test_the_study_s_own_folder_gives_its_test_images(run, study):
    where, _ = study
    rows, document, _ = predicted(run, where, where / "pets")
    assert len(rows) == 8
    assert document["summary"]["n"] == 8
