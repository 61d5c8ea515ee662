"""Submission to clusters, and the files that start them."""
