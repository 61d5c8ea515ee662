"""What is done for a cell: train, collect statistics, prune, fine-tune, and store the result."""
