"""What every launch script shares: its flags, the reading of its config, and errors of users without a traceback."""

import re
import sys
import traceback
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from margin_jax.config import validate
from margin_jax.errors import DivergedError, InputError

flags.disclaim_key_flags()  # --help shows the flags below as those of the script
UNREADABLE = "--config cannot be read; give a file such as configs/quickstart.py."


def _fail(message: str, status: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(status)


def _parse(argv: list[str]) -> list[str]:
    """Parses flags; a wrong one is explained in a line, an error in a config file itself keeps its traceback."""
    try:
        rest = flags.FLAGS(argv)
        _refuse_appended(argv)
        return rest
    except flags.Error as error:
        _fail(f"error: {error}", 2)
    except OSError as error:  # raised by the first override of a config that could not be loaded
        _fail(f"error: {UNREADABLE} {error}", 2)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # ml_collections raises these for an override of a key that the config does not have, or of another type.
        if "ml_collections" not in traceback.extract_tb(error.__traceback__)[-1].filename:
            raise
        unknown = re.search(r'Did you mean "(.+)" instead of "(.+)"', str(error))
        problem = f"there is no key {unknown[2]!r}; the nearest is {unknown[1]!r}" if unknown else " ".join(
            str(error).split())
        _fail(f"error: config: {problem}", 2)
    raise AssertionError("not reached")


def _refuse_appended(argv: list[str]) -> None:
    """Refuses a sequence that is given twice, which ml_collections appends where it replaces every other value."""
    names = [argument.lstrip("-").partition("=")[0] for argument in argv[1:] if argument.startswith("-")]
    for name in names:
        if name.startswith("config.") and names.count(name) > 1 and isinstance(flags.FLAGS[name].value, (tuple, list)):
            _fail(f"error: --{name} is given more than once; write all of its values at once, as in "
                  f"--{name}='(1, 2)'", 2)


def job_flags(example: str) -> tuple[flags.FlagHolder, flags.FlagHolder, flags.FlagHolder]:
    """Defines --config and --workdir, which are required, and --figures.

    Args:
      example: a config that the help names, such as "configs/fig05.py".

    Returns:
      The holders of --config, --workdir and --figures; their `value` is read after absl has parsed the flags, the
      config by `read_config`.
    """
    config = config_flags.DEFINE_config_file("config", None, f"Experiment, for instance {example}; override a value "
                                             "with --config.key=value.")
    workdir = flags.DEFINE_string("workdir", None, "Work folder, new or of an interrupted job of the same config; the "
                                  "same for all processes.")
    figures = flags.DEFINE_bool("figures", True, "Draw the figures and tables of the job when it ends.")
    flags.mark_flags_as_required(["config", "workdir"])
    return config, workdir, figures


def read_config(holder: flags.FlagHolder) -> Any:
    """The config of a `--config` flag, with the overrides of the command line.

    Args:
      holder: of `job_flags`.

    Returns:
      The `ml_collections.ConfigDict`, valid by `config.validate`.

    Raises:
      InputError: the file cannot be read, or a value cannot be. An error inside the file passes through.
    """
    try:
        config = holder.value
    except OSError as error:
        raise InputError(f"{UNREADABLE} {error}") from error
    validate(config)
    return config


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
