"""Errors that are explained to the user, and the end of a command with their message alone."""

import difflib
import errno
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from .escape import message

# Reasons that lie outside the program: permissions, space, names, a folder in the place of a file.
OUTSIDE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO),
    *(errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EFBIG),
)


class UserError(ValueError):
    """A problem that the user can solve; its message says what was expected, what came, and the cure.

    Attributes:
        one_rank: whether one process of a run may meet it alone. Otherwise all of them do, and one reports it.
    """

    one_rank = False

    def __init__(self, message: str, *, one_rank: bool = False):
        super().__init__(message)
        self.one_rank = one_rank or type(self).one_rank


@contextmanager
def exit_with_message(stopped: str | None = None) -> Iterator[None]:
    """End the program with one line on a `UserError`, or on an `OSError` for a reason outside the program.

    All other errors are bugs and keep their traceback.

    Args:
        stopped: what to say after Ctrl-C; without it KeyboardInterrupt passes.

    Raises:
        SystemExit: with the message.
    """
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {message(error)}")
    except OSError as error:
        if error.errno not in OUTSIDE:
            raise
        sys.exit(f"error: {message(error)}")
    except KeyboardInterrupt:
        if stopped is None:
            raise
        sys.exit(f"stopped: {stopped}")


def nearest_names(name: str, known: Iterable[str], number: int = 3, least: float = 0.6) -> list[str]:
    """The known names that are most like `name`, the most similar one first.

    Args:
        name: what the user typed.
        known: what there is.
        number: names at most.
        least: similarity from which a name counts, from 0 (any) to 1 (equal), as in `difflib`.
    """
    return difflib.get_close_matches(name, list(known), n=number, cutoff=least)


def did_you_mean(name: str, known: Iterable[str], number: int = 3, least: float = 0.6) -> str:
    """The question " Did you mean A or B?" with `nearest_names`; "" if none is like `name`."""
    near = nearest_names(name, known, number, least)
    return f" Did you mean {' or '.join(near)}?" if near else ""
