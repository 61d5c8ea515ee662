"""Ray Tune as an executor."""
