"""A person's own checkpoint: a safetensors file, or a torch file that holds only tensors."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from prune_core.networks.errors import ArchitectureError

_NESTED = ("state_dict", "model_state_dict", "model", "net")
"""Where training scripts put the state dict."""

_WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""

_COUNTER = "num_batches_tracked"
"""Of batch normalisation. Old files lack it, and with a fixed momentum nothing reads it."""

_SHOWN = 3


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a checkpoint onto the CPU.

    A torch file may hold the state dict under `state_dict`, `model_state_dict`, `model` or `net`.
    The prefixes `module.` and `_orig_mod.` are removed if all names have them.

    Raises
    ------
    ArchitectureError
        If the file is absent or damaged, or holds anything but dense tensors.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            # A safetensors file begins with 8 bytes for the length of a JSON object.
            safe = file.read(9)[8:] == b"{"
    except OSError as error:
        raise ArchitectureError(f"weights {path} cannot be read: {error.strerror}") from error
    content = _safetensors(path) if safe else _torch_file(path)
    tensors: dict[str, Tensor] = {}
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise ArchitectureError(
                f"weights {path}: entry '{name}' is of type {type(value).__name__}; save a state "
                "dict, alone or under 'state_dict'"
            )
        if value.layout is not torch.strided or value.is_quantized:
            raise ArchitectureError(f"weights {path}: tensor '{name}' is sparse or quantized")
        tensors[str(name)] = value
    if not tensors:
        raise ArchitectureError(f"weights {path}: the file holds no tensors")
    return dict(zip(_bare(tensors), tensors.values(), strict=True))


def weights_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """16 hexadecimal digits of the sha256 of names, dtypes, shapes and values of a checkpoint.

    It is the same for a safetensors file and a torch file of the same tensors. The counters of
    batches of batch normalisation do not change it.

    Parameters
    ----------
    tensors : as `read_weights` returns them.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        if not _is_counter(name):
            digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
            # A scalar has no bytes to view; reshaping also gives the order of a contiguous tensor.
            flat = tensor.detach().reshape(-1).contiguous()
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copies tensors into a module; floats are converted to the module's precision.

    Parameters
    ----------
    tensors : by the names of the module's state dict. The counters of batches of batch
        normalisation may be absent.
    where : names the checkpoint in errors.

    Raises
    ------
    ArchitectureError
        If names or shapes differ, if a tensor holds integers in place of floats or the reverse, or
        if a value is NaN or infinite. The module is then unchanged.
    """
    state = {n: value for n, value in module.state_dict().items() if isinstance(value, Tensor)}
    # A network may itself have a submodule named `module` that holds all the others.
    full = dict(zip(_bare(state), state, strict=True))
    own = {name: state[full[name]] for name in full}
    missing = [name for name in own if name not in tensors and not _is_counter(name)]
    unexpected = [name for name in tensors if name not in own and not _is_counter(name)]
    shared = {name: tensors[name] for name in own if name in tensors}
    shapes = [name for name in shared if shared[name].shape != own[name].shape]
    problems = []
    if missing:
        problems.append(f"it lacks {_some(missing)}")
    if unexpected:
        problems.append(f"the network has no {_some(unexpected)}")
    if shapes:
        said = [f"{n} {list(shared[n].shape)} for {list(own[n].shape)}" for n in shapes]
        problems.append(f"shapes differ: {_some(said)}")
    if len(problems) == 1 and (layer := _classifier(module)):
        weight, bias = (
            next((bare for bare in full if full[bare] == f"{layer}.{kind}"), "")
            for kind in ("weight", "bias")
        )
        if weight in shapes and {*shapes} <= {weight, bias}:
            there, here = shared[weight].shape, own[weight].shape
            if there[1:] == here[1:]:
                problems = [f"it has {there[0]} classes, but the network has {here[0]} ({layer})"]
    if problems:
        raise ArchitectureError(f"{where} does not fit the network: {'; '.join(problems)}")
    kinds = [n for n in shared if shared[n].is_floating_point() != own[n].is_floating_point()]
    if kinds:
        said = [f"{n} {shared[n].dtype} for {own[n].dtype}" for n in kinds]
        raise ArchitectureError(f"{where} has numbers of another kind: {_some(said)}")
    # A value may become infinite in the module's precision.
    shared = {name: tensor.to(own[name].dtype) for name, tensor in shared.items()}
    broken = [name for name in shared if not bool(torch.isfinite(shared[name]).all())]
    if broken:
        raise ArchitectureError(f"{where} has values that are NaN or infinite in {_some(broken)}")
    module.load_state_dict({full[name]: tensor for name, tensor in shared.items()}, strict=False)


def _safetensors(path: Path) -> Mapping[str, object]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise ArchitectureError(f"weights {path} cannot be read: {error}") from error


def _torch_file(path: Path) -> Mapping[str, object]:
    """The content of a torch file: the state dict inside, if there is one."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # A damaged file can raise almost anything.
    except Exception as error:
        found = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
        if found:
            reason = f"the file holds objects of {found[1]}, and reading them could run code"
        else:
            first = str(error).split(". ")[0]
            reason = f"this is no torch file of tensors ({type(error).__name__}: {first})"
        raise ArchitectureError(
            f"weights {path}: {reason}; where the weights were made, write a safetensors file: "
            "safetensors.torch.save_file({n: t.contiguous() for n, t in net.state_dict().items()}, "
            '"weights.safetensors")'
        ) from error
    while isinstance(content, Mapping):
        inside = [content[key] for key in _NESTED if isinstance(content.get(key), Mapping)]
        if not inside:
            return content
        content = inside[0]
    raise ArchitectureError(
        f"weights {path}: the file holds a {type(content).__name__}, not a state dict"
    )


def _bare(names: Iterable[str]) -> list[str]:
    """The names without the prefixes of wrappers, where all have them."""
    bare = list(names)
    while bare and (
        prefix := next((p for p in _WRAPPERS if all(n.startswith(p) for n in bare)), "")
    ):
        bare = [name.removeprefix(prefix) for name in bare]
    return bare


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] == _COUNTER


def _classifier(module: nn.Module) -> str:
    """The name of the last linear layer; empty if there is none."""
    linear = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    return linear[-1] if linear else ""


def _some(names: Sequence[str]) -> str:
    """The first few of many texts, and the number of the others."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
