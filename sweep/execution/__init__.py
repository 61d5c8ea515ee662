"""Running tasks: their order, their resources, and the executors."""
