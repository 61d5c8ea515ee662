"""Sweeps with Ray on this machine, from the command to the last row: time, busy slots, failures."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
NEEDED = ("ray", "pyarrow", "pandas", "pydantic", "typer")
STOP_SECONDS = 30


class Stopped(RuntimeError):
    """A sweep took too long, or could not run; the message says which."""


@dataclass(frozen=True)
class Ask:
    """A sweep to run.

    Attributes
    ----------
    spec : a packaged spec.
    fields : the fields that replace its own, such as `ratios=[0.3]`.
    gpus : of a trial; several trials share a GPU if it is below 1.
    """

    spec: str
    fields: tuple[str, ...] = ()
    gpus: float = 0.0

    @property
    def name(self) -> str:
        """What a row calls it."""
        return f"`{self.spec}`{', cut' if self.fields else ''}, {self.gpus:g} GPUs a trial"


def missing() -> list[str]:
    """The packages that a sweep needs and that are not on this machine."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def thesis(images: Path | None, train: int, test: int, quick: bool) -> tuple[str, ...]:
    """Fields for a small part of the spec `thesis`.

    Parameters
    ----------
    images : a folder with CIFAR-10 as Parquet files; the digits, if None.
    train, test : images of each part.
    """
    cut = f"train_images: {train}, test_images: {test}"
    source = "digits" if images is None else f"parquet:{images.resolve()}"
    fields = [
        f"datasets=[{{name: images, source: '{source}', {cut}}}]",
        "seeds=[0]",
        "metrics=[output_l1, entropy_gaussian, weighted_mutual_information]",
        "ratios=[0.3, 0.45]",
        "normalisations=[none]",
        "comparisons=[]",
        "controls={unpruned: false}",
        f"statistics_images={min(train // 2, 2_000)}",
        "recipe.epochs=10",
        "finetune.epochs=2",
    ]
    if quick:
        small = ["network.variant=simplenet_310k", "network.width=0.25", "scopes=[local]"]
        fields += [*small, "recipe.epochs=1", "finetune.epochs=1"]
    return tuple(fields)


DIGITS_CUT = (
    "network.width=0.25",
    "recipe.epochs=1",
    "metrics=[output_l1, entropy_gaussian]",
    "ratios=[0.3]",
    "scopes=[local]",
    "compensations=[none]",
)


def ran(ask: Ask, most_seconds: float, executor: str = "ray") -> list[str]:
    """Cells, wall seconds, slots, percent of the slots' time in cells, and failures.

    Raises
    ------
    Stopped
        If it took longer than `most_seconds`, or ended without rows.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "runs"
        command = [sys.executable, "-m", "sweep", "run", ask.spec, *ask.fields]
        command += [f"resources.gpus={ask.gpus:g}", "--out", str(out), "--executor", executor]
        began = time.monotonic()
        said = _run(command, most_seconds)
        wall = time.monotonic() - began
        from slots import use_of

        import results

        try:
            rows = results.load(str(out))
        except Exception as error:
            raise Stopped(f"no rows ({error}); it said: {said[-300:]}") from error
        used = use_of(rows)
        failed = int((rows["status"] != "ok").sum())
        return [
            str(len(rows)),
            f"{wall:.0f}",
            str(used.slots),
            f"{100 * used.busy:.0f}",
            str(failed),
        ]


def _run(command: Sequence[str], most_seconds: float) -> str:
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "RAY_AUTH_MODE": "disabled"}
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            return process.communicate(timeout=most_seconds)[0]
        except subprocess.TimeoutExpired:
            # The first Ctrl-C lets the run stop its Ray.
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            raise Stopped(f"took longer than {most_seconds:.0f} s") from None
