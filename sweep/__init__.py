"""A spec names a grid; a plan turns it into cells; Ray Tune runs those that are missing."""
