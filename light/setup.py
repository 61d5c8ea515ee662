"""Builds prune-sweep-results: the same code and command without torch, Ray and their like.

An extra can only add requirements, so an installation without them is a distribution of its own.
"""

import re
import tomllib
from pathlib import Path

from setuptools import find_packages, setup

LEFT_OUT = {"torch", "torchvision", "ray", "safetensors", "scikit-learn", "pillow"}

whole = tomllib.loads(Path("../pyproject.toml").read_text())
project, built = whole["project"], whole["tool"]["setuptools"]
setup(
    name="prune-sweep-results",
    version=project["version"],
    description="Reads, compares and reports sweeps of prune-sweep, without torch and Ray.",
    python_requires=project["requires-python"],
    install_requires=[
        needed
        for needed in project["dependencies"]
        if re.split(r"[\[<>=]", needed)[0] not in LEFT_OUT
    ],
    package_dir={"": ".."},
    # Git ignores these folders.
    options={"build": {"build_base": "../build/light"}, "egg_info": {"egg_base": "."}},
    packages=find_packages("..", include=built["packages"]["find"]["include"]),
    package_data=built["package-data"],
    entry_points={"console_scripts": [f"{name} = {at}" for name, at in project["scripts"].items()]},
)
