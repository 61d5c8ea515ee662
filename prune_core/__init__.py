"""Train, score, prune and fine-tune SimpleNet: plain PyTorch, usable in a notebook.

>>> import prune_core
>>> net = prune_core.load("exported")  # doctest: +SKIP
>>> logits = net(images)  # uint8 [N, 3, 32, 32] to fp32 [N, classes]  # doctest: +SKIP
"""

from prune_core.classifier import Classifier, load

__all__ = ["Classifier", "load"]
