"""The connection to Ray: a local Ray that is started here, or the cluster at RAY_ADDRESS."""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

# Ray reads these variables on import. Without them, Tune changes the working directory, writes
# files for every report, and starts a new process per trial instead of reusing one. Every few
# seconds it also saves its state for a restore, which is never done here.
_ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}
if "RAY_ADDRESS" not in os.environ:
    # A local Ray must not be reachable from other machines. With this variable, Ray listens on
    # loopback only, as it does by default on Windows and macOS. Setting the address is not enough,
    # because Ray replaces a loopback address by one that other machines can reach.
    _ENVIRONMENT["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray.autoscaler.sdk import request_resources  # noqa: E402

from prune_core.cpus import usable_cpus  # noqa: E402
from sweep.errors import ClusterError  # noqa: E402
from sweep.execution.resources import Resources  # noqa: E402
from sweep.execution.tune.sockets import folder_for_sockets  # noqa: E402

OBJECT_STORE_BYTES = 256 * 1024**2


class Cluster:
    """A connection to Ray: to the cluster at RAY_ADDRESS, or else to a local Ray on loopback.

    Parameters
    ----------
    log : the file for everything that Ray prints while the connection is open.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self._open = ExitStack()

    def __enter__(self) -> Cluster:
        if ray.is_initialized():
            raise ClusterError(
                "this process is connected to Ray already; call ray.shutdown() before the run, or "
                "wait until the other run has ended"
            )
        # Ray and Tune print messages about lost processes, which our own lines already report.
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        self._open.enter_context(redirect_stdout(self._open.enter_context(self.log.open("a"))))
        address = os.environ.get("RAY_ADDRESS")
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        on_terminate = signal.getsignal(signal.SIGTERM)
        try:
            if address:
                ray.init(address, **quiet)
            else:
                # Without an explicit mode, Ray may write a token into the home folder, which
                # changes how a later `ray start` of the same user behaves.
                os.environ.setdefault("RAY_AUTH_MODE", "disabled")
                ray.init(
                    "local",
                    num_cpus=usable_cpus(),
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    _temp_dir=str(folder_for_sockets()),
                    **quiet,
                )
        except (ConnectionError, ValueError, RuntimeError) as error:
            self._open.close()
            where = f"the Ray cluster at {address}" if address else "Ray on this machine"
            raise ClusterError(f"{where} cannot be used: {error}") from error
        if threading.current_thread() is threading.main_thread():
            # Restore our handler: Ray installs one that ends the process without cleanup.
            signal.signal(signal.SIGTERM, on_terminate)
        return self

    def __exit__(self, *exception: object) -> None:
        ray.shutdown()
        self._open.close()

    def nodes(self) -> list[Resources]:
        """The resources of each living node."""
        return [
            Resources(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
            for node in ray.nodes()
            if node["Alive"]
        ]

    def request(self, bundles: list[dict[str, float]]) -> None:
        """Asks an autoscaling cluster for enough nodes to hold all these bundles at once.

        The cluster keeps these nodes until the next request.
        """
        request_resources(bundles=bundles)
