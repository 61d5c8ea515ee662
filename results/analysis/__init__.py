"""Statistics of a sweep: from rows to intervals and verdicts."""
