"""Images in class folders, and the conversions that every file goes through."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prune_core.images import Images, ImagesError, load

GRADIENT = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32)


def save(file: Path, image: Image.Image | int, **options: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(image, int):
        image = Image.new("RGB", (32, 32), (image, image, image))
    image.save(file, **options)


def make(folder: Path, train: int = 3, test: int = 1) -> Path:
    """Two classes; the colour of an image is its place in the sorted list of files.

    Test images are 200 brighter, so that none is a copy of a training image.
    """
    for split, number, first in (("train", train, 0), ("test", test, 200)):
        for label, name in enumerate(("cat", "dog")):
            for i in range(number):
                save(folder / split / name / f"{i:03d}.png", first + label * number + i)
    return folder


def read(folder: Path) -> Images:
    return load(f"folder:{folder}", cache=folder.parent / "cache")


def message(folder: Path) -> str:
    with pytest.raises(ImagesError) as raised:
        read(folder)
    assert str(folder) in str(raised.value)
    return str(raised.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(tmp_path / "pets")


def test_labels_follow_the_class_folders(folder: Path) -> None:
    images = read(folder)
    assert images.classes == 2
    assert images.name == "pets"
    assert images.flip_keeps_label
    colours = images.train_images[:, 0, 0, 0]
    assert sorted(colours.tolist()) == list(range(6))
    assert images.train_labels.tolist() == (colours >= 3).long().tolist()


def test_same_images_as_torchvision(folder: Path) -> None:
    from torchvision.datasets import ImageFolder

    theirs = {np.asarray(image).tobytes(): label for image, label in ImageFolder(folder / "train")}
    ours = read(folder)
    pairs = zip(ours.train_images.permute(0, 2, 3, 1), ours.train_labels, strict=True)
    assert {image.numpy().tobytes(): label.item() for image, label in pairs} == theirs


def test_order_is_mixed_and_fixed(tmp_path: Path) -> None:
    folder = make(tmp_path / "many", train=50)
    images = read(folder)
    # Sorted by class, the first 50 would all be cats.
    assert 15 <= images.train_labels[:50].sum() <= 35
    first = images.train_images[:10, 0, 0, 0].tolist()
    assert first == [53, 33, 94, 2, 42, 32, 43, 95, 41, 88]
    assert images.cut(20).classes == 2


def test_subfolders_links_and_other_files(folder: Path) -> None:
    save(folder / "train/cat/deeper/x.PNG", 99)
    (folder / "train/dog/linked.png").symlink_to(folder / "test/dog/000.png")
    (folder / "train/cat/labels.csv").write_text("no image")
    (folder / "train/cat/._000.png").write_bytes(b"what some systems leave beside a file")
    (folder / "train/.ipynb_checkpoints").mkdir()
    (folder / "train/readme.txt").write_text("not a class")
    images = read(folder)
    assert len(images.train_labels) == 8
    assert 99 in images.train_images[:, 0, 0, 0]
    assert images.notes == (
        "folders passed over: .ipynb_checkpoints",
        f"1 file passed over, such as {folder / 'train/cat/labels.csv'}",
        "1 of 2 test images is a copy of training images (equal pixels after decoding)",
    )


def test_absent_training_folder(folder: Path) -> None:
    (folder / "train").rename(folder / "val")
    text = message(folder)
    assert "has no folder train/" in text
    assert "holds test, val" in text


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "has no class folders" in message(tmp_path / "empty")
    assert "holds nothing" in message(tmp_path / "empty")


def test_missing_folder(tmp_path: Path) -> None:
    assert "there is no folder" in message(tmp_path / "absent")


def test_split_without_classes(folder: Path) -> None:
    (folder / "bare/train").mkdir(parents=True)
    assert "has no class folders" in message(folder / "bare")


def test_a_class_of_test_images_that_has_no_training_image(folder: Path) -> None:
    save(folder / "test/emu/0.png", 1)
    text = message(folder)
    assert "test has class folders that the training images lack: emu" in text
    assert "the training images have cat, dog" in text


def test_class_without_images(folder: Path) -> None:
    for split in ("train", "test"):
        (folder / split / "emu").mkdir()
    assert "train/emu holds no image" in message(folder)


def test_single_class(tmp_path: Path) -> None:
    save(tmp_path / "one/train/cat/0.png", 1)
    save(tmp_path / "one/test/cat/0.png", 1)
    assert "at least two classes" in message(tmp_path / "one")


def test_file_that_is_no_image(folder: Path) -> None:
    (folder / "test/dog/bad.jpg").write_text("no image")
    text = message(folder)
    assert f"{folder / 'test/dog/bad.jpg'}: not a readable image" in text


def test_link_to_nowhere(folder: Path) -> None:
    (folder / "test/dog/gone.png").symlink_to(folder / "absent.png")
    text = message(folder)
    assert "gone.png: not a readable image (No such file or directory)" in text


def test_truncated_file(folder: Path) -> None:
    file = folder / "train/cat/big.jpg"
    save(file, Image.effect_noise((200, 200), 50))
    file.write_bytes(file.read_bytes()[:3000])
    assert f"{file}: not a readable image" in message(folder)
    assert "truncated" in message(folder)


def one(folder: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """The one test image of the class cat, and the notes; no warning may be given."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = read(folder)
    cat = images.test_images[images.test_labels == 0]
    return cat[0].permute(1, 2, 0).numpy(), images.notes


GREY = (GRADIENT // 4).astype(np.uint8)
GREY_NOTE = "1 image in grey scale: the one channel repeated for red, green and blue"
ALPHA_NOTE = "1 image with transparency: the alpha channel dropped, the colours under it kept"
PALETTE_NOTE = "1 image with a palette: converted to RGB"
SIXTEEN_NOTE = "1 image with 16 bits a pixel: the high 8 bits kept"
RANGE_NOTE = "the values of 16-bit images are 0 to 65,472"


def with_alpha(mode: str) -> Image.Image:
    image = Image.fromarray(GREY).convert(mode)
    image.putalpha(Image.fromarray(255 - GREY))
    return image


def palette() -> Image.Image:
    image = Image.fromarray(GREY).convert("P")
    image.putpalette([value for grey in range(256) for value in (grey, grey, grey)])
    return image


@pytest.mark.parametrize(
    ("suffix", "image", "options", "notes"),
    [
        ("png", Image.fromarray(GREY), {}, (GREY_NOTE,)),
        ("png", with_alpha("L"), {}, (GREY_NOTE, ALPHA_NOTE)),
        ("png", with_alpha("RGB"), {}, (ALPHA_NOTE,)),
        ("png", palette(), {}, (PALETTE_NOTE,)),
        ("png", palette(), {"transparency": bytes(range(256))}, (PALETTE_NOTE, ALPHA_NOTE)),
        ("png", Image.fromarray(GRADIENT * 64), {}, (GREY_NOTE, SIXTEEN_NOTE, RANGE_NOTE)),
        ("tiff", Image.fromarray(GRADIENT * 64), {}, (GREY_NOTE, SIXTEEN_NOTE, RANGE_NOTE)),
        ("pgm", Image.fromarray(GRADIENT * 64), {}, (GREY_NOTE, SIXTEEN_NOTE, RANGE_NOTE)),
    ],
    ids=["grey", "grey-alpha", "rgba", "palette", "palette-alpha", "png16", "tiff16", "pgm16"],
)
def test_modes_become_rgb(
    folder: Path,
    suffix: str,
    image: Image.Image,
    options: dict[str, object],
    notes: tuple[str, ...],
) -> None:
    """Each file holds the same grey picture; transparency must not change its colours."""
    (folder / "test/cat/000.png").unlink()
    save(folder / f"test/cat/picture.{suffix}", image, **options)
    pixels, told = one(folder)
    assert np.array_equal(pixels, np.repeat(GREY[:, :, None], 3, axis=2))
    assert told == notes


@pytest.mark.parametrize(("largest", "deep"), [(65_535, True), (4_095, True), (255, False)])
def test_deep_colours_of_ppm_files_are_noted(folder: Path, largest: int, deep: bool) -> None:
    header = f"P6 32 32 {largest}\n".encode()
    content = header + np.full((32, 32, 3), largest // 2, ">u2" if deep else "u1").tobytes()
    (folder / "test/cat/000.png").unlink()
    (folder / "test/cat/picture.ppm").write_bytes(content)
    pixels, notes = one(folder)
    assert (abs(pixels.astype(int) - 127) <= 1).all()
    assert notes == (("1 image with 16 bits a colour: reduced to 8",) if deep else ())
    if deep:
        with pytest.raises(ImagesError, match="can only be read with bits: 16"):
            load(f"folder:{folder}?bits=12", cache=folder.parent / "cache")


def test_black_and_white_and_cmyk(folder: Path) -> None:
    save(folder / "train/cat/bits.png", Image.fromarray(GREY > 100))
    save(folder / "train/cat/print.jpg", Image.new("CMYK", (32, 32), (0, 255, 255, 0)))
    images = read(folder)
    assert images.notes == (
        GREY_NOTE,
        "1 image in another colour space, such as CMYK: converted to RGB",
    )
    red = images.train_images[:, :, 16, 16].tolist()
    assert any(r > 200 and g < 60 and b < 60 for r, g, b in red)


def test_floating_point_pixels(folder: Path) -> None:
    file = folder / "train/cat/float.tiff"
    save(file, Image.fromarray(np.zeros((32, 32), dtype=np.float32)))
    assert f"{file}: not a readable image (floating-point pixels" in message(folder)


def test_32_bit_pixels(folder: Path) -> None:
    file = folder / "train/cat/wide.tiff"
    save(file, Image.fromarray(np.full((32, 32), 70000, dtype=np.int32)))
    assert f"{file}: not a readable image (pixels outside 0..65535" in message(folder)


def test_other_sizes_are_resized_and_noted_once(folder: Path) -> None:
    save(folder / "train/cat/large.png", Image.new("RGB", (64, 48), (9, 8, 7)))
    save(folder / "train/dog/small.png", Image.new("RGB", (8, 8), (9, 9, 7)))
    images = read(folder)
    assert images.notes == (
        "2 images of another size: resized to 32 x 32 (bilinear, antialiased, aspect ratio not "
        "kept)",
    )
    uniform = [image for image in images.train_images if image[0, 0, 0] == 9]
    assert len(uniform) == 2
    assert all(image[2].eq(7).all() for image in uniform)


def test_another_size_is_a_height_and_a_width(folder: Path) -> None:
    noise = Image.effect_noise((90, 70), 60).convert("RGB")
    exact = Image.effect_noise((24, 40), 60).convert("RGB")
    save(folder / "test/cat/000.png", noise)
    save(folder / "test/dog/000.png", exact)
    images = load(f"folder:{folder}", image_size=(40, 24), cache=folder.parent / "cache")
    assert images.train_images.shape == (6, 3, 40, 24)
    expected = [noise.resize((24, 40), Image.Resampling.BILINEAR), exact]
    for label, image in enumerate(expected):
        (found,) = images.test_images[images.test_labels == label]
        assert np.array_equal(found.permute(1, 2, 0).numpy(), np.asarray(image))
    assert images.notes == (
        "7 images of another size: resized to 40 x 24 (bilinear, antialiased, aspect ratio not "
        "kept)",
    )


def test_reduction_is_antialiased(folder: Path) -> None:
    """One-pixel stripes average to grey; without antialiasing they would stay black or white."""
    (folder / "test/cat/000.png").unlink()
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 64))
    save(folder / "test/cat/stripes.png", Image.fromarray(stripes).convert("RGB"))
    pixels, _ = one(folder)
    assert (np.abs(pixels[:, 1:-1].astype(int) - 127) <= 10).all()
