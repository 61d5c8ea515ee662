"""Tune's own loggers for TensorBoard, MLflow and Weights & Biases, set up for a sweep."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from results.storage.locations import is_uri
from sweep.errors import UserError

# For each logger, the module that it needs and the package to install.
NEEDS = {
    "tensorboard": ("tensorboardX", "ray[tune]"),
    "mlflow": ("mlflow", "prune-sweep[mlflow]"),
    "wandb": ("wandb", "prune-sweep[wandb]"),
}
UPLOAD_S = 50


class LoggerError(UserError):
    """A logger cannot be used; the message says what to install or to set."""


def check(names: Sequence[str]) -> None:
    """Refuses loggers that are not installed.

    Raises
    ------
    LoggerError
        Naming the command that installs the missing package.
    """
    for name in names:
        module, package = NEEDS[name]
        if find_spec(module) is None:
            raise LoggerError(
                f"loggers: {name} is not installed; run pip install '{package}', or remove {name} "
                "from `loggers` in the spec"
            )


def folder_of(results: object, sweep: str) -> Path:
    """The folder of local logs: in the results folder, or in `runs` if that is an object store."""
    local = Path("runs") / sweep if is_uri(str(results)) else Path(str(results))
    return local.resolve() / "live"


def make(name: str, sweep: str, folder: Path) -> Any:
    """One of Tune's loggers, ready for trials.

    Parameters
    ----------
    name : `tensorboard`, `mlflow` or `wandb`.
    sweep : the name of the MLflow experiment, and of the project and group in Weights & Biases.
    folder : the folder for local files.

    Raises
    ------
    LoggerError
        If the server cannot be used or the credentials are missing. The message names the
        environment variables.
    """
    makers: dict[str, Callable[[str, Path], Any]] = {
        "tensorboard": _tensorboard,
        "mlflow": _mlflow,
        "wandb": _wandb,
    }
    folder.mkdir(parents=True, exist_ok=True)
    return makers[name](sweep, folder)


def _tensorboard(sweep: str, folder: Path) -> Any:
    from ray.tune.logger import TBXLoggerCallback

    class NamedFolders(TBXLoggerCallback):
        """Writes into our own folder, because Tune's folder is deleted after the run."""

        def log_trial_start(self, trial: Any) -> None:
            """See `LoggerCallback`."""
            where = str(folder / "tensorboard" / str(trial))
            self._trial_writer[trial] = self._summary_writer_cls(where, flush_secs=30)
            self._trial_result[trial] = {}

    return NamedFolders()


def _mlflow(sweep: str, folder: Path) -> Any:
    # MLflow requires this variable for the file store; a database would need the full package.
    # The second variable turns off usage statistics.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or (folder / "mlflow").as_uri()
    logger = MLflowLoggerCallback(
        uri, experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", sweep)
    )
    try:
        logger.setup()
    except Exception as error:
        raise LoggerError(
            f"loggers: MLflow cannot use {uri} (MLFLOW_TRACKING_URI; a database needs `pip install "
            f"mlflow`): {error}"
        ) from error
    return logger


def _wandb(sweep: str, folder: Path) -> Any:
    import wandb
    from ray.air.integrations.wandb import WandbLoggerCallback

    # The logger may run in a process of the cluster that lacks these environment variables.
    variables = {"mode": "WANDB_MODE", "entity": "WANDB_ENTITY"}
    options = {
        name: os.environ[variable] for name, variable in variables.items() if variable in os.environ
    }
    if "WANDB_BASE_URL" in os.environ:
        options["settings"] = wandb.Settings(base_url=os.environ["WANDB_BASE_URL"])  # type: ignore[assignment]
    logger = WandbLoggerCallback(
        project=os.environ.get("WANDB_PROJECT", sweep),
        group=sweep,
        upload_timeout=UPLOAD_S,
        dir=str(folder),
        **options,
    )
    try:
        logger.setup()
    except Exception as error:
        raise LoggerError(
            "loggers: Weights & Biases needs WANDB_API_KEY, `wandb login`, or WANDB_MODE=offline: "
            f"{error}"
        ) from error
    return logger
