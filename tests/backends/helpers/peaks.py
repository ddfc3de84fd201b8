"""How much memory a call takes."""

import tracemalloc


def peak_of(function):
    """Return how many bytes a call allocates at most, beyond what it leaves."""
    function()
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
