"""What a sweep found: the schema of its tables, the store that keeps them, and pandas frames.

>>> import results
>>> frame = results.load("runs/digits")  # doctest: +SKIP
"""

import lazy_loader

# pandas takes a second to import, and `prune-sweep status` needs none of it.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
