"""Imported by the program `prune-sweep` before the libraries whose import takes seconds."""

import sys
from pathlib import Path

from sweep.commands.interrupts import quit_at_ctrl_c

if Path(sys.argv[0]).stem == "prune-sweep":
    quit_at_ctrl_c()
