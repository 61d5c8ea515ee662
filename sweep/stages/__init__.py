"""The stages of a cell: train, collect statistics, prune, fine-tune and store the result."""
