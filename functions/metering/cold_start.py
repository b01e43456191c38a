"""A cold start without garbage collection.

Imports create about 100,000 objects but hardly any garbage, and looking for garbage would take a tenth of the cold
start. So each entry imports this module first, and calls `ended` when all its dependencies exist.
"""

import gc

gc.disable()


def ended() -> None:
    """Turn garbage collection on. Objects that exist now stay, and collections skip them."""
    gc.freeze()
    gc.enable()
