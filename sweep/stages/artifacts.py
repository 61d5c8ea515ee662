"""The artifacts of a sweep, stored by key: trained baselines, channel statistics and others."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from prune_core.evaluation import Evaluation
from prune_core.network_files import DESCRIPTION, TENSORS, NetworkFileError
from prune_core.network_files import load as load_network
from prune_core.network_files import save as save_network
from prune_core.networks import Builder
from prune_core.preprocessing import Preprocessing
from prune_core.statistics import Answer
from prune_core.training import Epoch
from results import StoreError
from results.storage.locations import Folder, Where, folder_of
from results.storage.tensor_files import file_name, metadata_of

BASELINES, STATISTICS = "baselines", "statistics"
RECORD = "baseline.json"


class DamagedArtifactWarning(UserWarning):
    """A stored baseline, statistic, checkpoint or copy of weights is damaged, and is replaced."""


@dataclass(frozen=True)
class TrainedBaseline:
    """A trained network with its preprocessing, accuracy and training history.

    Attributes
    ----------
    seconds : wall-clock time of the training.
    checksum : of the stored files; empty before they are stored.
    """

    net: nn.Module
    preprocessing: Preprocessing
    validation: Evaluation
    test: Evaluation
    history: tuple[Epoch, ...]
    seconds: float
    checksum: str = ""

    @cached_property
    def weights_checksum(self) -> str:
        """16 hexadecimal digits of the sha256 of its weights and running statistics."""
        state = self.net.state_dict()
        return _checksum_of({name: tensor.cpu() for name, tensor in state.items()})[:16]


@dataclass(frozen=True)
class CollectedStatistic:
    """One statistic of a baseline.

    Attributes
    ----------
    answers : one per layer.
    collection : identifies the `collect` that it comes from; other statistics may share it.
    seconds : wall-clock time of that collection.
    shared : number of statistics that it collected.
    """

    answers: list[Answer]
    collection: str = ""
    seconds: float = 0.0
    shared: int = 1


class Artifacts:
    """The folder of shared artifacts."""

    def __init__(self, folder: Where) -> None:
        self.folder = folder_of(folder)

    def put_files(self, kind: str, key: str, last: str, fill: Callable[[Path], None]) -> None:
        """Stores a folder of files.

        If another process stored the same folder first, its equal result is kept.

        Parameters
        ----------
        kind, key : the folder's name, `kind/key`.
        last : the file that marks the folder as complete. In an object store, which has no
            folders, it is written after all other files.
        fill : writes the files, without subfolders, into an empty folder on this machine.

        Raises
        ------
        StoreError
            If the files cannot be written.
        """
        folder = self.folder / kind
        try:
            folder.put(key, fill, last)
        except (OSError, SafetensorError) as error:
            raise StoreError(f"{key} could not be written to {folder}: {error}") from error

    @contextmanager
    def files(self, kind: str, key: str, last: str) -> Iterator[Path | None]:
        """Opens a local folder with the files that `put_files` stored; None if there are none."""
        folder = self.folder / kind
        if not folder.holds(key, last):
            yield None
            return
        with folder.get(key) as path:
            yield path

    def has_files(self, kind: str, key: str, last: str) -> bool:
        """Whether a complete folder of files is stored."""
        return (self.folder / kind / key).has(last)

    def remove_files(self, kind: str, key: str, last: str) -> None:
        """Removes a folder of files, so that a new one can be stored in its place."""
        (self.folder / kind).remove(key, last)

    def baselines(self) -> set[str]:
        """The keys of all complete baselines."""
        return set((self.folder / BASELINES).folders(RECORD))

    def baseline(self, key: str, own: Builder | None = None) -> TrainedBaseline | None:
        """A stored baseline, or None if it is absent or damaged.

        Parameters
        ----------
        own : builds the network if it is a person's own.
        """
        with self.files(BASELINES, key, RECORD) as folder:
            if folder is None:
                return None
            try:
                return _read_baseline(folder, own)
            except (NetworkFileError, OSError, ValueError, KeyError, TypeError) as error:
                _raise_if_unreachable(error)
                _warn(self.folder / BASELINES, key, error)
        self.remove_files(BASELINES, key, RECORD)
        return None

    def put_baseline(self, key: str, trained: TrainedBaseline) -> None:
        """Stores a baseline.

        If another process stored the same baseline first, its equal result is kept.

        Raises
        ------
        StoreError
            If the files cannot be written.
        """
        self.put_files(BASELINES, key, RECORD, lambda folder: _write_baseline(folder, trained))

    def statistics(self) -> set[str]:
        """The keys of all stored statistics."""
        return {Path(entry.name).stem for entry in (self.folder / STATISTICS).entries()}

    def statistic(self, key: str, of: str, layers: int) -> CollectedStatistic | None:
        """A stored statistic, or None.

        None if the statistic is absent or damaged, or belongs to another baseline.

        Parameters
        ----------
        of : the checksum of the baseline. A baseline that was trained again on another machine
            may have other weights, and then the statistic does not describe its channels.
        layers : how many the statistic has answers for.
        """
        found = self.tensors(STATISTICS, key)
        if found is None:
            return None
        tensors, metadata = found
        try:
            if metadata.get("baseline") != of:
                raise ValueError("it was taken from another baseline")
            # Files of earlier versions do not say it.
            if int(metadata.get("layers", layers)) != layers:
                raise ValueError(f"it is of {metadata['layers']} layers, not of {layers}")
            answers: list[Answer] = [{} for _ in range(layers)]
            for full_name, tensor in tensors.items():
                layer, _, field = full_name.partition(".")
                answers[int(layer)][field] = tensor
            return CollectedStatistic(
                answers,
                metadata["collection"],
                float(metadata["seconds"]),
                int(metadata["shared"]),
            )
        except (ValueError, KeyError, IndexError) as error:
            self._discard(STATISTICS, key, error)
            return None

    def put_statistic(self, key: str, of: str, found: CollectedStatistic) -> None:
        """Stores a statistic of the baseline with the checksum `of`.

        Raises
        ------
        StoreError
            If the file cannot be written.
        """
        tensors = {
            f"{layer}.{field}": tensor.contiguous()
            for layer, answer in enumerate(found.answers)
            for field, tensor in answer.items()
        }
        metadata = {
            "baseline": of,
            "collection": found.collection,
            "seconds": repr(found.seconds),
            "shared": str(found.shared),
            "layers": str(len(found.answers)),
        }
        self.put_tensors(STATISTICS, key, tensors, metadata)

    def tensors(self, kind: str, key: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """The tensors and the metadata of a file; None if it is absent or damaged."""
        try:
            content = (self.folder / kind).read(file_name(key))
        except FileNotFoundError:
            return None
        try:
            tensors, metadata = load(content), metadata_of(content)
            found, of_tensors = metadata.pop("checksum", ""), _checksum_of(tensors)
            # In files of earlier versions it does not cover the metadata.
            if found not in (_checksum_of_file(of_tensors, metadata), of_tensors):
                raise ValueError("its checksum does not match")
        except (ValueError, SafetensorError) as error:
            self._discard(kind, key, error)
            return None
        return tensors, metadata

    def put_tensors(
        self, kind: str, key: str, tensors: dict[str, Tensor], metadata: dict[str, str]
    ) -> None:
        """Stores a file of tensors, with a checksum of all of it, in place of an earlier one.

        Raises
        ------
        StoreError
            If the file cannot be written.
        """
        folder = self.folder / kind
        try:
            folder.make()
            checksum = _checksum_of_file(_checksum_of(tensors), metadata)
            content = save(tensors, {"checksum": checksum, **metadata})
            folder.write(file_name(key), content)
        except OSError as error:
            raise StoreError(f"{key} could not be written to {folder}: {error}") from error

    def remove_tensors(self, kind: str, key: str) -> None:
        """Removes a file of tensors, if there is one."""
        (self.folder / kind).delete(file_name(key))

    def _discard(self, kind: str, key: str, error: Exception) -> None:
        """Removes a damaged file of tensors, with a warning."""
        _warn(self.folder / kind, file_name(key), error)
        self.remove_tensors(kind, key)


def _read_baseline(folder: Path, own: Builder | None) -> TrainedBaseline:
    stored = load_network(folder, own)
    described = json.loads((folder / RECORD).read_text())
    record = described["record"]
    if described["checksum"] != _checksum(folder, record):
        raise ValueError("its checksum does not match")
    return TrainedBaseline(
        net=stored.net,
        preprocessing=stored.preprocessing,
        validation=Evaluation(**record["validation"]),
        test=Evaluation(**record["test"]),
        history=tuple(Epoch(**epoch) for epoch in record["history"]),
        seconds=float(record["seconds"]),
        checksum=described["checksum"],
    )


def _write_baseline(folder: Path, trained: TrainedBaseline) -> None:
    save_network(trained.net, trained.preprocessing, folder)
    record = {
        "validation": asdict(trained.validation),
        "test": asdict(trained.test),
        "history": [asdict(epoch) for epoch in trained.history],
        "seconds": trained.seconds,
    }
    described = {"checksum": _checksum(folder, record), "record": record}
    (folder / RECORD).write_text(json.dumps(described, indent=1))


def _checksum(folder: Path, record: dict[str, object]) -> str:
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name in (DESCRIPTION, TENSORS):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _checksum_of(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)};".encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()


def _checksum_of_file(of_tensors: str, metadata: dict[str, str]) -> str:
    described = json.dumps(metadata, sort_keys=True)
    return hashlib.sha256(f"{of_tensors} {described}".encode()).hexdigest()


def _raise_if_unreachable(error: Exception) -> None:
    """Raises if a file cannot be reached now: it may be intact, so it must not be deleted."""
    cause = error.__cause__ if isinstance(error, NetworkFileError) else error
    if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
        raise error


def _warn(folder: Folder, name: str, error: Exception) -> None:
    warnings.warn(
        f"{folder / name} is damaged and is computed again ({error})",
        DamagedArtifactWarning,
        stacklevel=3,
    )
