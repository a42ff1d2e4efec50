"""Errors with a message for the user instead of a traceback."""


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what was expected, what came and what to do.

    The launch scripts print its message without a traceback and leave with exit status 2. It is raised before any
    compute is spent and before anything on disk is changed.
    """


class DivergedError(RuntimeError):
    """A loss or parameter stopped being finite; the message says in which epoch and step, and what is left.

    The launch scripts print its message without a traceback and leave with exit status 1.
    """
