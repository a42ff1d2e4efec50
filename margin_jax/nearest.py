"""What a mistyped name was most likely meant to be."""

import difflib
from collections.abc import Iterable


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
