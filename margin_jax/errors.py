"""The errors whose message is for the user, shown without a traceback, and `nearest` for a mistyped name."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what was expected, what came and what to do.

    The launch scripts print its message without a traceback and leave with exit status 2. It is raised before any
    compute is spent and before anything on disk is changed.
    """


class OverError(InputError):
    """The work folder holds a run that is over, which is never overwritten; a launch script may still draw it."""


class DivergedError(RuntimeError):
    """A loss or parameter stopped being finite; the message says in which epoch and step, and what is left.

    The launch scripts print its message without a traceback and leave with exit status 1.
    """


def nearest(word: str, choices: Iterable[str]) -> str:
    """Returns the choice closest in spelling to a word, whatever its case.

    Args:
        word: what the user wrote.
        choices: what could have been written; at least one.

    Returns:
        One of `choices`, also where none is close.
    """
    by_lower = {choice.lower(): choice for choice in choices}
    return by_lower[difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.0)[0]]
