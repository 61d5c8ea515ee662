"""The benchmarks are scripts: they find one another beside themselves."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
