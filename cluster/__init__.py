"""Submission of sweeps to a cluster, and files that start one."""

DISTRIBUTION = "prune-sweep"
