"""Exit codes, and how errors of a command become one and a message."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from typing import Any

import typer

from results import SchemaError
from sweep.commands.interrupts import EXIT_INTERRUPTED, finish, raise_at_ctrl_c
from sweep.commands.interrupts import interrupted as was_interrupted
from sweep.errors import UserError
from sweep.execution.terminal import EXIT_PIPE_CLOSED, Terminal, print_every_text

EXIT_OK, EXIT_NOT_ALL_OK, EXIT_BAD_INPUT = 0, 1, 2
NOT_IN_LIGHT = ("torch", "torchvision", "ray", "safetensors", "sklearn")
"""Modules that the distribution prune-sweep-results does not install."""


def guarded(command: Callable[..., bool], interrupted: str = "interrupted") -> Callable[..., None]:
    """Turns the result or error of a command into an exit code and, for errors, one message.

    Parameters
    ----------
    interrupted : the message after Ctrl-C.
    """

    @functools.wraps(command)
    def guarded(*arguments: Any, **options: Any) -> None:
        raise_at_ctrl_c()
        print_every_text()
        errors = Terminal(stderr=True)
        # The source line and the class of a warning do not help the user.
        warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
        try:
            code = EXIT_OK if command(*arguments, **options) else EXIT_NOT_ALL_OK
        except BrokenPipeError:
            code = EXIT_PIPE_CLOSED
        except (UserError, SchemaError, OSError) as error:
            errors.print(f"error: {error}", style="red")
            code = EXIT_BAD_INPUT
        except UnicodeEncodeError as error:
            if error.encoding != sys.getfilesystemencoding():
                raise
            errors.print(
                f"error: the encoding {error.encoding} of this locale has no {error.object!r}; set "
                "LC_ALL=C.UTF-8 or PYTHONUTF8=1",
                style="red",
            )
            code = EXIT_BAD_INPUT
        except ModuleNotFoundError as error:
            if error.name not in NOT_IN_LIGHT:
                raise
            errors.print(
                f"error: this command needs {error.name}: pip install prune-sweep", style="red"
            )
            code = EXIT_BAD_INPUT
        except KeyboardInterrupt:
            errors.print(interrupted)
            code = EXIT_INTERRUPTED
        except typer.Exit as ended:
            code = ended.exit_code
        except Exception:
            # A library that is interrupted while it is imported may raise its own exception.
            if not was_interrupted():
                raise
            errors.print(interrupted)
            code = EXIT_INTERRUPTED
        finish()
        raise typer.Exit(code)

    return guarded
