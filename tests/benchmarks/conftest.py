"""Lets the benchmarks, which are scripts, import one another."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
