"""The usual training loop, written without regard to speed, as a reference for our loop.

fp32, contiguous [N, C, H, W], torchvision's transforms on PIL images in a DataLoader with worker
processes, SGD with Nesterov momentum. Batch size, learning rate and weight decay are as in ours.
"""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from prune_core.images import LabelledImages
from prune_core.networks import SimpleNet
from prune_core.preprocessing import Preprocessing
from prune_core.training import Recipe, one_cycle

WORKERS = 2


class TransformedImages(Dataset[tuple[Tensor, int]]):
    """Images that are transformed one by one on access, as in torchvision's data sets."""

    def __init__(self, images: LabelledImages, transform: transforms.Compose) -> None:
        self.pixels = images.images.permute(0, 2, 3, 1).numpy()
        self.labels = images.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def usual_train(
    net: SimpleNet,
    images: LabelledImages,
    preprocessing: Preprocessing,
    recipe: Recipe,
    seed: int,
    flip_keeps_label: bool,
    workers: int = WORKERS,
) -> None:
    """Trains a network in place for the recipe's epochs."""
    net.to(memory_format=torch.contiguous_format)
    steps = [transforms.RandomCrop(32, padding=recipe.crop_padding)]
    if recipe.flip and flip_keeps_label:
        steps.append(transforms.RandomHorizontalFlip())
    scale = transforms.Normalize(
        [mean / 255 for mean in preprocessing.mean],
        [deviation / 255 for deviation in preprocessing.deviation],
    )
    dataset = TransformedImages(images, transforms.Compose([*steps, transforms.ToTensor(), scale]))
    loader = DataLoader(
        dataset,
        batch_size=recipe.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        generator=torch.Generator().manual_seed(seed),
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    optimiser = torch.optim.SGD(
        [
            {
                "params": [p for p in net.parameters() if p.ndim > 1],
                "weight_decay": recipe.weight_decay,
            },
            {"params": [p for p in net.parameters() if p.ndim <= 1]},
        ],
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=True,
    )
    total = recipe.epochs * len(loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: one_cycle(recipe, (step + 0.5) / total) / recipe.learning_rate
    )
    net.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(recipe.epochs):
            for pixels, labels in loader:
                optimiser.zero_grad()
                loss = criterion(net(pixels), labels)
                loss.backward()
                optimiser.step()
                scheduler.step()
