"""What every launch script shares: user errors without a traceback, and where the process starts."""

import sys
import traceback
from collections.abc import Callable

from absl import app, flags, logging

from margin_jax.errors import DivergedError, InputError


def _fail(message: str, status: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(status)


def _parse(argv: list[str]) -> list[str]:
    """Parses flags; a wrong one is explained in a line, an error in a config file itself keeps its traceback."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _fail(f"error: {error}", 2)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # ml_collections raises these for an override of a key that the config does not have, or of another type.
        if "ml_collections" not in traceback.extract_tb(error.__traceback__)[-1].filename:
            raise
        _fail(f"error: config: {' '.join(str(error).strip().split())}", 2)
    raise AssertionError("not reached")


def run(main: Callable[[list[str]], None]) -> None:
    """Runs an absl main; errors meant for the user print their message alone.

    Exit status 2 for an `InputError`, 1 for a `DivergedError`, 130 for an interrupt from the keyboard.

    Args:
      main: takes the arguments that are no flags, as absl passes them.
    """

    def guarded(argv: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # checkpointing libraries tell every file they rename
        try:
            if len(argv) > 1:
                raise InputError(f"expected flags only, got {' '.join(argv[1:])!r}; write --name=value")
            main(argv)
        except InputError as error:
            _fail(f"error: {error}", 2)
        except DivergedError as error:
            _fail(f"diverged: {error}", 1)
        except KeyboardInterrupt:
            _fail("interrupted; the same command continues the run", 130)

    app.run(guarded, flags_parser=_parse)
