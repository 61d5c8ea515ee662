"""The first Python code of a job on the cluster: checks this Python, then runs the command line.

It needs nothing but the standard library of any Python 3.8 or later, because it reports what the
cluster's Python lacks.
"""

from __future__ import annotations

import re
import runpy
import sys
from importlib.metadata import PackageNotFoundError, metadata, version

from cluster import DISTRIBUTION

EXIT_BAD_INPUT = 2


def problem() -> str | None:
    """Why this Python cannot run the sweep, or None.

    It must fulfil the metadata of the distribution, which `cluster.bundle` writes into the folder
    of the job.
    """
    try:
        needed = metadata(DISTRIBUTION)
    except PackageNotFoundError:
        return None
    oldest = re.search(r">=\s*(\d+)\.(\d+)", needed["Requires-Python"] or "")
    if oldest and sys.version_info < tuple(map(int, oldest.groups())):
        return f"is Python {sys.version.split()[0]}, not {oldest[0][2:].strip()} or later"
    names = [re.split(r"[^\w.-]", line)[0] for line in needed.get_all("Requires-Dist") or []]
    missing = [name for name in names if not _installed(name)]
    return f"lacks {', '.join(missing)}" if missing else None


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    if found := problem():
        print(
            f"error: the job's Python, {sys.executable}, {found}; install the packages of "
            "requirements.lock there, or set --python to a Python on the cluster that has them"
        )
        sys.exit(EXIT_BAD_INPUT)
    runpy.run_module("sweep", run_name="__main__", alter_sys=True)
