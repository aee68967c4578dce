"""How far long work is: a bar in a terminal; elsewhere lines of the log, ten seconds apart and then less often."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator

import torch.distributed as dist
from tqdm import tqdm

logger = logging.getLogger(__name__)
SECONDS_BETWEEN_REPORTS = 10


def in_terminal() -> bool:
    """Whether a person watches this process: of several processes only the first one shows bars."""
    first = not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
    return first and sys.stderr is not None and sys.stderr.isatty()


class Progress:
    """Counts what is done of some work and shows it until the block ends.

    Args:
        what: the work, such as "Features".
        total: how many things it takes.
        unit: what one of them is called, in the plural.

    Example:
        >>> with Progress("Features", total=8, unit="batches") as progress:
        ...     for batch in batches:
        ...         progress.advance()
    """

    def __init__(self, what: str, total: int, unit: str):
        self.what, self.total, self.unit, self.done = what, total, unit, 0
        self.began = self.reported = time.monotonic()
        # Gone at its end: what has been done then gets a line of its own.
        # One thing is done or not: a bar would only flicker.
        hidden = total < 2 or not in_terminal()
        self.bar = tqdm(total=total, desc=what, unit=f" {unit}", leave=False, dynamic_ncols=True, disable=hidden)

    def advance(self, number: int = 1) -> None:
        """Count so many more as done."""
        self.done += number
        self.bar.update(number)
        now = time.monotonic()
        # Less and less often: a day's work must not fill the log.
        pause = max(SECONDS_BETWEEN_REPORTS, (self.reported - self.began) / 2)
        if self.bar.disable and self.done < self.total and now - self.reported > pause:
            self.reported, left = now, (now - self.began) / self.done * (self.total - self.done)
            logger.info("%s: %d of %d %s, %.0f s left", self.what, self.done, self.total, self.unit, left)

    def note(self, text: str) -> None:
        """Show a few words behind the bar."""
        self.bar.set_postfix_str(text)

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        self.close()


class ShownLoader:
    """A loader whose batches are counted by `Progress` while they are iterated over."""

    def __init__(self, loader, what: str):
        self.loader, self.what = loader, what

    def __getattr__(self, name: str):
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator:
        with Progress(self.what, len(self), "batches") as progress:
            for batch in self.loader:
                yield batch
                progress.advance()


@contextlib.contextmanager
def beside_bars() -> Iterator[None]:
    """Take bars off the terminal while something else is written to it."""
    with tqdm.external_write_mode(file=sys.stdout):
        yield
