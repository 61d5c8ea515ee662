"""A spec names a grid, a plan turns it into cells, and Ray Tune runs the missing cells."""
