"""What every launch script shares: user errors without a traceback, and where the process starts."""

import sys
from collections.abc import Callable

from absl import app, flags, logging

from margin_jax.errors import DivergedError, InputError


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
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except DivergedError as error:
            print(f"diverged: {error}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            print("interrupted; the same command continues the run", file=sys.stderr)
            sys.exit(130)

    app.run(guarded)
