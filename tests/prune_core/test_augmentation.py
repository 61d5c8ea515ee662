import pytest
import torch

from prune_core.augmentation import Crops
from prune_core.images import LabelledImages


def pictures(count=6, height=8, width=10):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, 256, (count, 3, height, width), generator=generator).to(torch.uint8)


def augment(images, generator, padding, flip):
    return Crops.draw(len(images), generator, padding, flip).of(images)


def every_crop(image, padding, flip):
    """All possible results for one image, cropped explicitly, with their shift and flip."""
    colours, height, width = image.shape
    framed = torch.zeros(colours, height + 2 * padding, width + 2 * padding, dtype=image.dtype)
    framed[:, padding : padding + height, padding : padding + width] = image
    for row in range(2 * padding + 1):
        for column in range(2 * padding + 1):
            crop = framed[:, row : row + height, column : column + width]
            yield (row, column, False), crop
            if flip:
                yield (row, column, True), torch.flip(crop, dims=[2])


@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("flip", [False, True])
def test_each_image_is_one_explicit_crop_and_all_of_them_occur(padding, flip):
    images = pictures(3)
    generator = torch.Generator().manual_seed(0)
    seen = [set() for _ in images]
    for _ in range(60):
        made = augment(images, generator, padding, flip)
        assert made.shape == images.shape
        assert made.dtype is torch.uint8
        for index, image in enumerate(images):
            matches = [
                how
                for how, crop in every_crop(image, padding, flip)
                if torch.equal(crop, made[index])
            ]
            assert len(matches) == 1
            seen[index].add(matches[0])
    possible = (2 * padding + 1) ** 2 * (2 if flip else 1)
    for ways in seen:
        # 60 draws miss each of the `possible` results with probability (1 - 1/possible)^60.
        assert len(ways) == possible if possible <= 2 else len(ways) > min(possible, 60) / 2
        assert {row for row, _, _ in ways} == set(range(2 * padding + 1))
        assert {column for _, column, _ in ways} == set(range(2 * padding + 1))
        assert {mirrored for _, _, mirrored in ways} == ({False, True} if flip else {False})


def test_images_of_a_batch_are_cropped_independently():
    images = pictures(1).expand(64, -1, -1, -1)
    made = augment(images, torch.Generator().manual_seed(0), padding=4, flip=True)
    assert len({bytes(image.numpy().tobytes()) for image in made}) > 40


def test_the_generator_determines_the_crops():
    images = pictures()

    def made(seed):
        return augment(images, torch.Generator().manual_seed(seed), 4, True)

    assert torch.equal(made(1), made(1))
    assert not torch.equal(made(1), made(2))


def test_the_original_images_are_not_changed():
    images = pictures()
    before = images.clone()
    made = augment(images, torch.Generator().manual_seed(0), 0, False)
    assert torch.equal(made, images)
    made.zero_()
    assert torch.equal(images, before)


@pytest.mark.parametrize(("height", "width"), [(8, 10), (10, 8), (32, 9)])
def test_crops_of_an_epoch_can_be_applied_in_batches(height, width):
    images = pictures(height=height, width=width)
    crops = Crops.draw(len(images), torch.Generator().manual_seed(0), 4, True)
    parts = [crops[part].of(images[part]) for part in (slice(0, 2), slice(2, 6))]
    assert torch.equal(torch.cat(parts), crops.of(images))


def test_crops_do_not_depend_on_how_the_images_are_gathered():
    stored, labels = pictures(9), torch.arange(6)
    index = torch.tensor([8, 0, 3, 1, 7, 2])
    selected = LabelledImages(stored, labels, index)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(2))
    crops = Crops.draw(6, torch.Generator().manual_seed(0), 2, True)
    for part in (slice(0, 4), slice(4, 6)):
        pixels, _ = selected.batch(order[part])
        made = crops[part].of(pixels)
        assert torch.equal(made, crops[part].of(stored[index][order][part]))
