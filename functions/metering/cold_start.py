"""A cold start without garbage collection.

Imports create about 100,000 objects but hardly any garbage, and garbage collection would take a tenth of the cold
start. So each entry imports this module first, and calls `ended` when all the entry's dependencies exist.
"""

import gc

gc.disable()


def ended() -> None:
    """Turn garbage collection on. Later collections skip the objects that exist now."""
    gc.freeze()
    gc.enable()
