"""Options of a data set in the spec: what `plan` says of it, and what the trials then read."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from odd_images import class_folders, in_folder, png, rows, save, write
from PIL import Image

from prune_core.images.options import NAMES
from prune_core.images.parquet import IMAGE_COLUMNS, LABEL_COLUMNS
from sweep.errors import SpecError
from sweep.planning.grid import plan
from sweep.stages.data import class_names_of, split_of
from sweep.stages.rows import identity_row

PETS = ["cat", "dog", "emu"]


def of(source: str, **options: object) -> dict[str, object]:
    return {"datasets": [{"source": source, "image_size": 32, **options}]}


def test_plan_says_that_validation_files_are_held_out(spec, tmp_path):
    folder = write(
        tmp_path / "pets", train=rows([0, 1, 0, 1]), val=rows([1, 0], 10), test=rows([0, 1], 20)
    )
    planned = plan(spec(of(f"parquet:{folder}")))
    note = "its own 2 validation images are the held-out part; `holdout` is not used"
    assert f"pets: {note}" in planned.notes
    dataset = planned.cells[0].baseline.dataset
    counts = dataset.train_images, dataset.validation_images, dataset.test_images
    assert counts == (4, 2, 2)
    assert split_of(dataset).validation.labels.tolist() == [1, 0]
    # `holdout` changes nothing, so it changes no key.
    other = plan(spec({**of(f"parquet:{folder}"), "holdout": 0.4}))
    assert {cell.key for cell in other.cells} == {cell.key for cell in planned.cells}


def test_options_reach_the_trials(spec, tmp_path):
    folder = tmp_path / "pets"
    for at, place in enumerate(("first", "second", "third part")):
        class_folders(folder / place, PETS, 3, 1000 * at)
    save(folder / "first/cat/bad.png", png(5)[:40])
    shutil.copy(folder / "first/cat/0.png", folder / "third part/dog/0.png")
    options = {"train": "first", "validation": "second", "test": "third part", "on_error": "skip"}
    fields = plan(spec(of(f"folder:{folder}", **options)))
    assert any("1 of 28 images cannot be read and is left out" in note for note in fields.notes)
    dataset = fields.cells[0].baseline.dataset
    assert dataset.name == "pets"
    row = identity_row(fields.cells[0], "odd")
    assert row["own_validation"]
    assert row["images_skipped"] == 1
    assert (row["train_duplicates"], row["test_duplicates"]) == (0, 1)
    assert row["test_duplicates_other_label"] == 1
    split = split_of(dataset)
    assert class_names_of(dataset) == tuple(PETS)
    assert len(split.train) == 9
    assert sorted(split.test.labels.tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert in_folder(folder / "third part").total() == 9
    # The same, written behind the source, as in a command that takes only a source.
    query = "?train=first&validation=second&test=third+part&on_error=skip"
    behind = plan(spec(of(f"folder:{folder}{query}")))
    assert behind.cells == fields.cells


def test_a_share_far_from_holdout_is_said(spec, tmp_path):
    for part, images in (("train", 2), ("test", 1)):
        class_folders(tmp_path / "many" / part, [f"c{at}" for at in range(20)], images, len(part))
    notes = plan(spec(of(f"folder:{tmp_path / 'many'}"))).notes
    assert any(note.startswith("many: 50 % of the training images are held out") for note in notes)


def test_the_page_on_images_is_right(spec):
    page = (Path(__file__).resolve().parents[2] / "docs/images.md").read_text()
    (shown,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    plain, pets = spec(yaml.safe_load(shown)).datasets
    assert plain.located == "folder:photos"
    assert pets.located == "parquet:pets?label_column=breed"
    options = re.findall(r"^\| (`.*) \| .* \| .* \|$", page.partition("## Options")[2], re.M)
    assert re.findall(r"`(\w+)`", " ".join(options)) == list(NAMES)
    columns = re.findall(r"^\| (?:images|labels): ?.*\| (.*) \| `.*` \|$", page, re.M)
    columns += re.findall(r"^\| labels \| (.*) \| `.*` \|$", page, re.M)
    assert [tuple(re.findall(r"\w+", names)) for names in columns] == [
        IMAGE_COLUMNS,
        LABEL_COLUMNS,
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"on_error": "ignore"}, ["on_error", "ignore", "skip"]),
        ({"bits": 7}, ["bits", "7", "8"]),
        ({"label_column": ""}, ["label_column"]),
        ({"source": "folder:x?train=a", "train": "b"}, ["train", "once"]),
        ({"source": "folder:x?bits=99"}, ["bits", "99"]),
    ],
    ids=str,
)
def test_options_that_are_not_allowed(spec, options, words):
    with pytest.raises(SpecError) as raised:
        spec({"datasets": [{"source": "folder:x", **options}]})
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("digits", {"on_error": "skip"}, "digits does not read the option on_error; it reads none"),
        ("folder:x", {"label_column": "y"}, "folder does not read the option label_column"),
        ("./photos", {}, "write 'folder:./photos'"),
        ("cifar-10", {}, "did you mean 'cifar10'?"),
    ],
)
def test_options_that_a_source_does_not_read(spec, source, options, words):
    with pytest.raises(SpecError) as raised:
        plan(spec(of(source, **options)))
    assert words in str(raised.value)


def test_predict_turns_images_as_training_does(tmp_path):
    """It decodes with this function; see also tests/prune_core/test_images_notes.py."""
    from prune_core.images import decode
    from sweep.commands import predict

    assert predict.decode_into is decode.decode_into
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.effect_noise((12, 8), 80).convert("RGB")
    picture.save(tmp_path / "turned.png", exif=exif)
    pixels = np.empty((1, 3, 12, 8), dtype=np.uint8)
    changes = predict.decode_into([[predict.Encoded(tmp_path / "turned.png")]], pixels)
    upright = picture.transpose(Image.Transpose.ROTATE_270)
    assert pixels[0].transpose(1, 2, 0).tobytes() == upright.tobytes()
    assert changes.counts["turned"] == 1
