"""The executor that runs tasks with Ray Tune."""
