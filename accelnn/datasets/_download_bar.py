"""The progress of pooch's downloads on accelnn's progress bar."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

from accelnn._progress import progress_bar

__all__ = ["DownloadBar"]


class DownloadBar:
    """A progress bar as pooch's downloaders expect it.

    pooch sets `total` when the first bytes arrive, which shows the bar. Leaving the context removes
    it, also after a failure, when pooch does not call `close`.

    Parameters
    ----------
    description : str
        What is being downloaded.
    """

    def __init__(self, description: str) -> None:
        self._description = description
        self._stack = ExitStack()
        self._advance: Callable[[int, str], None] = lambda _n, _note: None
        self._total = 0
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @property
    def total(self) -> int:
        """Number of bytes to download; 0 if the server did not say."""
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        self._total = total
        bar = progress_bar(self._description, total, unit="bytes")
        self._advance = self._stack.enter_context(bar)

    def update(self, n: int) -> None:
        """Move the bar by `n` bytes, but not past its end, because pooch counts whole chunks."""
        if self._total:
            n = min(n, self._total - self._done)
        self._done += n
        self._advance(n, "")

    def reset(self) -> None:
        """Move the bar back to its start."""
        self._advance(-self._done, "")
        self._done = 0

    def close(self) -> None:
        """Remove the bar."""
        self._stack.close()
