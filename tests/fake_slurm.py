"""A Slurm of one machine in a folder: sbatch, srun, sacct and scancel as far as submitit uses them.

`install` makes the commands. Each job runs at once as a process of its own, unless `endings` of the
folder says how the next jobs end:

    run         its script runs, and its exit code gives the state
    NAME        it is COMPLETED at once, with the result in the file NAME.pkl of the folder
    refuse      sbatch refuses it
    STATE       otherwise it is in this state at once, without a result
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

FOLDER = "FAKE_SLURM"
COMMANDS = ("sbatch", "srun", "sacct", "scancel")
STREAMS = ("output", "error")


def install(folder: Path) -> Path:
    """Makes the commands; returns the folder for PATH. FAKE_SLURM must name `folder`."""
    commands = folder / "bin"
    commands.mkdir(parents=True)
    (folder / "jobs").mkdir()
    say_endings(folder, [])
    for name in COMMANDS:
        script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S {__file__} {name} "$@"\n'
        (commands / name).write_text(script)
        (commands / name).chmod(0o755)
    return commands


def say_endings(folder: Path, endings: list[str]) -> None:
    """Says how the next jobs end; those after them run."""
    (folder / "endings").write_text(json.dumps(endings))


def calls(folder: Path, command: str) -> list[list[str]]:
    """The arguments of all calls of a command."""
    lines = (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []
    found: list[list[str]] = [json.loads(line) for line in lines]
    return [words[1:] for words in found if words[0] == command]


def scripts(folder: Path) -> list[str]:
    """The scripts of all jobs and arrays, in order."""
    return [path.read_text() for path in sorted(folder.glob("script-*"))]


def _sbatch(folder: Path, script: str) -> None:
    text = Path(script).read_text()
    number = 1 + len(list(folder.glob("script-*")))
    endings: list[str] = json.loads((folder / "endings").read_text())
    array = re.search(r"^#SBATCH --array=0-(\d+)%\d+$", text, re.MULTILINE)
    jobs = [f"{number}_{at}" for at in range(int(array[1]) + 1)] if array else [str(number)]
    now, later = endings[: len(jobs)], endings[len(jobs) :]
    if "refuse" in now:
        say_endings(folder, endings[now.index("refuse") + 1 :])
        sys.exit("sbatch: error: Batch job submission failed: Invalid partition name specified")
    say_endings(folder, later)
    (folder / f"script-{number:04}").write_text(text)
    for job, ending in zip(jobs, [*now, *["run"] * len(jobs)], strict=False):
        _begin(folder, job, ending, folder / f"script-{number:04}")
    print(f"Submitted batch job {number}")


def _begin(folder: Path, job: str, ending: str, script: Path) -> None:
    state = folder / "jobs" / job
    if ending == "run":
        state.write_text("RUNNING")
        command = [sys.executable, "-S", __file__, "job", job, str(script)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        (folder / f"pid-{job}").write_text(str(process.pid))
        return
    if (result := folder / f"{ending}.pkl").exists():
        to = _output(script.read_text(), "output", job)
        to.with_name(f"{job}_0_result.pkl").write_bytes(result.read_bytes())
        ending = "COMPLETED"
    state.write_text(ending)


def _output(script: str, stream: str, job: str) -> Path:
    pattern = re.search(rf"^#SBATCH --{stream}=(.*)$", script, re.MULTILINE)
    assert pattern
    return _file(shlex.split(pattern[1])[0], job)


def _file(pattern: str, job: str) -> Path:
    array, _, index = job.partition("_")
    for letter, value in {"A": array, "a": index, "j": array, "t": "0"}.items():
        pattern = pattern.replace(f"%{letter}", value)
    return Path(pattern)


def _job(folder: Path, job: str, script: str) -> None:
    array, _, index = job.partition("_")
    environment = {**os.environ, "SLURM_JOB_ID": array, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
    if index:
        environment |= {"SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": index}
    streams = [_output(Path(script).read_text(), name, job).open("a") for name in STREAMS]
    code = subprocess.run(
        ["bash", script], env=environment, stdout=streams[0], stderr=streams[1], check=False
    ).returncode
    (folder / "jobs" / job).write_text("COMPLETED" if code == 0 else "FAILED")


def _srun(folder: Path, *words: str) -> None:
    streams = {}
    while words[0].startswith("--"):
        option, *words = words  # type: ignore[assignment]
        if option in ("--output", "--error"):
            pattern, *words = words  # type: ignore[assignment]
            job, index = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_ARRAY_TASK_ID")
            job = f"{job}_{index}" if index else job
            streams[option] = _file(pattern, job).open("a")
    os.dup2(streams["--output"].fileno(), 1)
    os.dup2(streams["--error"].fileno(), 2)
    os.execvp(words[0], list(words))


def _sacct(folder: Path, *words: str) -> None:
    print("JobID|State|NodeList")
    for state in sorted((folder / "jobs").iterdir()):
        print(f"{state.name}|{state.read_text()}|here")
        print(f"{state.name}.batch|{state.read_text()}|here")


def _scancel(folder: Path, *words: str) -> None:
    for state in (folder / "jobs").iterdir():
        if state.name.partition("_")[0] in words and state.read_text() == "RUNNING":
            state.write_text("CANCELLED by 0")
            if (process := folder / f"pid-{state.name}").exists():
                os.killpg(int(process.read_text()), signal.SIGTERM)


if __name__ == "__main__":
    where, (called, *arguments) = Path(os.environ[FOLDER]), sys.argv[1:]
    with (where / "calls").open("a") as file:
        file.write(json.dumps([called, *arguments]) + "\n")
    table = {"sbatch": _sbatch, "srun": _srun, "sacct": _sacct, "scancel": _scancel, "job": _job}
    table[called](where, *arguments)
