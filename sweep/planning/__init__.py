"""Turns a spec into cells, each with an identity and a key."""
