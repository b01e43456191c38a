"""A cold start without the garbage collector: imports make a hundred thousand objects and hardly any garbage.

Looking for it would take a tenth of the cold start. So each entry imports this before anything else, and calls `ended`
when everything is made.
"""

import gc

gc.disable()


def ended() -> None:
    """Collect garbage from now on. Objects that exist now stay, and later collections skip them."""
    gc.freeze()
    gc.enable()
