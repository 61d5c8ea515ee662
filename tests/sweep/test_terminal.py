"""What a person sees, where the output goes to a terminal, a pipe or a narrow encoding."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

import results
from sweep.commands import interrupts
from sweep.commands.exits import guarded
from sweep.execution.messages import note, say
from sweep.execution.terminal import EXIT_PIPE_CLOSED, Terminal, plain

SWEEP = [sys.executable, "-m", "sweep"]
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "\x1b]0;title\x07", "a\rb", "\x9b31m", "\u202eabc", "\x00", "\x7f"]
)
def test_control_characters_do_not_reach_it(text):
    out = io.StringIO()
    Terminal(file=out, force_terminal=True).print(f"[bold]{text}[/bold]")
    assert text not in out.getvalue()
    assert out.getvalue().startswith("[bold]")
    assert plain(text) != text


def test_plain_text_stays_as_it_is():
    assert plain("äß 数 [red]x[/red]\nnext") == "äß 数 [red]x[/red]\nnext"


def started(*words, **environment):
    return subprocess.Popen(
        [*SWEEP, *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def test_a_list_whose_reader_ends_ends_like_sigpipe():
    process = started("metrics")
    process.stdout.close()
    assert (process.wait(), process.stderr.read()) == (EXIT_PIPE_CLOSED, "")


def test_a_sweep_whose_reader_ends_goes_on(write_spec, tmp_path):
    few = {"metrics": ["random"], "ratios": [0.5], "scopes": ["local"]}
    path, folder = write_spec(few), tmp_path / "runs"
    process = started("run", path, "--out", folder, "--executor", "serial")
    process.stdout.readline()
    process.stdout.close()
    assert (process.wait(), process.stderr.read()) == (0, "")
    assert results.load(folder)["status"].tolist() == ["ok"]


@pytest.mark.parametrize("module", ["yaml", "torch"])
def test_ctrl_c_while_importing_is_quiet(module, tmp_path):
    """`yaml` is imported while a command runs, after the command line itself."""
    # A library whose import tells that it began, and takes long.
    (tmp_path / f"{module}.py").write_text(
        "import pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'began')!r}).touch()\n"
        "try:\n    time.sleep(60)\n"
        "except BaseException as error:\n    raise SystemError('import failed') from error\n"
    )
    process = started("plan", "digits", PYTHONPATH=f"{tmp_path}:{REPOSITORY}")
    while not (tmp_path / "began").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert errors in ("", "interrupted\n")


def test_ctrl_c_after_the_table_is_quiet(tmp_path):
    """At the exit, libraries wait for their threads."""
    script = (
        "import atexit, sys, time\n"
        "from sweep.commands.interrupts import quit_at_ctrl_c\n"
        "quit_at_ctrl_c()\n"
        "from sweep.commands.cli import app\n"
        "atexit.register(lambda: (print('leaving', flush=True), time.sleep(60)))\n"
        "app(['datasets'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while "leaving" not in (line := process.stdout.readline()):
        assert line, process.communicate()
    process.send_signal(signal.SIGINT)
    assert (process.communicate()[1], process.returncode) == ("", 130)


NARROW = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_characters_that_the_encoding_lacks_are_replaced(tmp_path):
    process = started("status", tmp_path / "\u043f\u0440\u0443\u043d", **NARROW)
    out, errors = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert errors.startswith("error: there is no results folder ")
    assert "Traceback" not in errors


def test_a_spec_whose_path_the_encoding_lacks_is_told(content, tmp_path):
    import yaml

    path = tmp_path / "spec.yaml"
    changes = {"datasets": [{"source": "folder:\u043f\u0440", "name": "own"}]}
    path.write_text(yaml.safe_dump(content(changes), allow_unicode=True), encoding="utf-8")
    process = started("plan", path, "--data", tmp_path, **NARROW)
    _, errors = process.communicate()
    assert process.returncode == 2
    assert "Traceback" not in errors
    assert errors.startswith("error: ")


def test_an_exit_code_after_ctrl_c_says_nothing(capfd):
    """A command that handles Ctrl-C itself ends with its own exit code and words."""

    def command() -> bool:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise typer.Exit(7) from None
        return True

    # As in the program: `guarded` turns this handler into one that raises.
    before = signal.signal(signal.SIGINT, interrupts._quit)
    try:
        with pytest.raises(typer.Exit) as ended:
            guarded(command)()
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.exit_code == 7
    assert capfd.readouterr().err == ""


def test_notes_and_progress_from_python_are_plain_text(capsys):
    # Names of files and classes are data: they must not move the cursor or change a title.
    note("class \x1b]0;title\x07 of photos")
    say(Terminal(), "cell \x1b[2J")
    told = capsys.readouterr()
    assert told.err == "note: class \ufffd]0;title\ufffd of photos\n"
    assert told.out == "cell \ufffd[2J\n"
