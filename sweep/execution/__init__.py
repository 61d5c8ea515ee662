"""How tasks are run: their order, their resources, and the executors."""
