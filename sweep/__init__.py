"""A spec names a grid, a plan turns it into cells, and Ray Tune runs the missing cells.

>>> import sweep
>>> done = sweep.run("digits", ["ratios=[0.3]"])  # doctest: +SKIP
>>> done.status().complete, done.load()  # doctest: +SKIP
"""

import lazy_loader

# Whatever imports a part of the sweep imports this; torch and pandas take seconds.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
