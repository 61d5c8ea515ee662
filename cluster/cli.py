"""The command line with the additional cluster commands `submit` and `cluster-files`."""

from __future__ import annotations

import sweep.commands.starting  # noqa: F401  before the libraries that take seconds

# isort: split
import sys
import tempfile
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from cluster.errors import SubmissionError
from sweep.commands.arguments import OverridesArgument, PluginOption, WhereOption
from sweep.commands.cli import app
from sweep.commands.exits import guarded
from sweep.commands.interrupts import EXIT_INTERRUPTED
from sweep.errors import UserError
from sweep.execution.terminal import Terminal

__all__ = ["app"]

SpecArgument = Annotated[
    str | None,
    typer.Argument(
        help="A YAML file, - for standard input, or a packaged spec.", show_default=False
    ),
]
AddressOption = Annotated[
    str,
    typer.Option(
        envvar="RAY_API_SERVER_ADDRESS",
        help="Address of the cluster's dashboard, such as http://head:8265.",
        show_default=False,
    ),
]
OutOption = Annotated[
    str | None,
    typer.Option(
        help="Results folder that all nodes of the cluster share: an absolute path or a URI.",
        show_default=False,
    ),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        help="Folder of the images on every node of the cluster: an absolute path.",
        show_default=False,
    ),
]
RetryOption = Annotated[
    str | None,
    typer.Option(help="Run cells with these statuses again, such as failed.", show_default=False),
]
PythonOption = Annotated[
    str | None,
    typer.Option(
        help="A Python on the cluster. Default: the Python of its Ray.", show_default=False
    ),
]
WaitOption = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Show the output until the sweep ends.")
]
FollowOption = Annotated[
    str | None, typer.Option(metavar="JOB", help="Show the output of a job.", show_default=False)
]
StatusOption = Annotated[
    str | None,
    typer.Option(metavar="JOB", help="Show the status of a job.", show_default=False),
]
StopOption = Annotated[
    str | None, typer.Option(metavar="JOB", help="Stop a job.", show_default=False)
]


@app.command()
@guarded
def submit(
    spec: SpecArgument = None,
    overrides: OverridesArgument = None,
    plugin: PluginOption = None,
    address: AddressOption = "",
    out: OutOption = None,
    data: DataOption = None,
    retry: RetryOption = None,
    where: WhereOption = None,
    python: PythonOption = None,
    wait: WaitOption = True,
    follow: FollowOption = None,
    status: StatusOption = None,
    stop: StopOption = None,
) -> bool:
    """Run a spec on a Ray cluster and show its output. Ctrl-C does not stop the sweep."""
    from cluster.bundle import bundle
    from cluster.jobs import Jobs
    from sweep.spec.conditions import conditions_of, with_budgets

    given = {"SPEC": spec, "--follow JOB": follow, "--status JOB": status, "--stop JOB": stop}
    if sum(value is not None for value in given.values()) != 1:
        raise SubmissionError(f"give exactly one of {', '.join(given)}")
    if not address:
        raise SubmissionError(
            "the address of the cluster's dashboard is missing; give it as in "
            "--address http://head:8265, or set RAY_API_SERVER_ADDRESS"
        )
    console = Terminal(file=sys.stdout)
    if spec is not None:
        conditions_of(where or ())
        options = [("--out", _seen_there("--out", out)), ("--retry", retry)]
        if data is not None:
            options.append(("--data", _seen_there("--data", data)))
        with tempfile.TemporaryDirectory(prefix="prune-sweep-") as folder:
            packed = bundle(spec, Path(folder), overrides or (), plugin or ())
            options += [("--where", one) for one in with_budgets(where or (), packed.renamed)]
            jobs = Jobs(address)
            follow = jobs.submit(packed, options, python)
        code = f"the code of commit {packed.revision}" if packed.revision else "this code"
        console.print(f"job {follow}: {packed.name} and {code}, {packed.size / 1000:.0f} kB")
        if not wait:
            console.print(_coming_back(follow, address))
            return True
    else:
        jobs = Jobs(address)
    if stop is not None:
        jobs.stop(stop, console)
        return True
    if status is not None:
        raise typer.Exit(jobs.status(status, console))
    assert follow is not None
    try:
        raise typer.Exit(jobs.follow(follow, console))
    except KeyboardInterrupt:
        console.print(f"the sweep continues on the cluster. {_coming_back(follow, address)}")
        raise typer.Exit(EXIT_INTERRUPTED) from None


@app.command(name="cluster-files")
@guarded
def cluster_files(
    folder: Annotated[Path, typer.Argument(help="Target folder; created if it does not exist.")],
) -> bool:
    """Copy the files that start a cluster: own servers, AWS, Google Cloud, Kubernetes, Slurm."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = sorted((resources.files("cluster") / "files").iterdir(), key=lambda e: e.name)
    # Never overwrite: the user may have filled in the file.
    if there := [entry.name for entry in entries if (folder / entry.name).exists()]:
        raise UserError(f"{folder} has {', '.join(there)} already; name another folder")
    for entry in entries:
        target = folder / entry.name
        target.write_bytes(entry.read_bytes())
        Terminal(file=sys.stdout).print(str(target))
    return True


def _coming_back(job: str, address: str) -> str:
    there = f"--address {address}"
    return (
        f"To show its output: prune-sweep submit --follow {job} {there}; "
        f"to stop it: prune-sweep submit --stop {job} {there}"
    )


def _seen_there(option: str, place: str | None) -> str:
    """Checks that a folder is an absolute path or a URI, which mean the same on every machine."""
    if place is None or not ("://" in place or PurePosixPath(place).is_absolute()):
        raise SubmissionError(
            f"{option} {place or 'is missing'}: give an absolute path that exists on every node "
            "of the cluster, such as /shared/runs/study, or a URI such as s3://bucket/study"
        )
    return place
