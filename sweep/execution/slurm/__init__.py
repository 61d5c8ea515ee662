"""The executor that runs tasks as jobs of Slurm, without Ray."""
