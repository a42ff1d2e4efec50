"""What every launch script shares: its flags, the reading of its config, and errors of users without a traceback.

Exit status 2 is a mistake in what was asked for, 1 a run that diverged or a disk that gave no more, 143 and 130 a run
that SIGTERM or Ctrl-C stopped.
"""

import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from margin_jax import signals
from margin_jax.errors import DivergedError, InputError, nearest
from margin_jax.machine import is_full, storage_problem

flags.disclaim_key_flags()  # --help shows the flags below as those of the script
UNREADABLE = "--config cannot be read; give a file such as configs/quickstart.py."
_FOLDERS = (("data", "dir"), ("data", "cache_dir"), ("compress", "base"), ("stability", "base"))


def _fail(message: str, status: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(status)


def _unknown_keys(argv: list[str]) -> None:
    """Refuses overrides of keys that no config has; parsing gives them other errors, by the kind of the key's name."""
    from margin_jax.config import default_config, flatten  # loads JAX, which launch/plot.py does not wait for

    default = flatten(default_config())
    sections = {name.rpartition(".")[0] for name in default}
    names = [override[1].split("[")[0] for override in (re.match(r"--?config\.([^=]+)", word) for word in argv[1:])
             if override]
    for name in names:
        if name not in default and name not in sections:
            by_length = sorted(default, key=lambda key: key.count("."), reverse=True)  # of two the one in no section
            last = {key.rpartition(".")[2]: key for key in by_length}
            close = nearest(name, default) if "." in name else last[nearest(name, last)]
            _fail(f"error: config: there is no key {name!r}; the nearest is {close!r}", 2)


def _parse(argv: list[str]) -> list[str]:
    """Parses flags; a wrong one is explained in a line, an error in a config file itself keeps its traceback."""
    if "config" in flags.FLAGS:
        _unknown_keys(argv)
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


class _FolderParser(flags.ArgumentParser):
    """A folder; a shell leaves the ~ of --workdir=~/runs as it is."""

    def parse(self, argument: str) -> str:
        return os.path.expanduser(argument)


def define_folder(name: str, default: str | None, help: str, required: bool = False) -> flags.FlagHolder:
    """Defines a flag that names a folder, in which a leading ~ stands for the user's home; as `flags.DEFINE_string`."""
    return flags.DEFINE(_FolderParser(), name, default, help, required=required)


def job_flags(example: str) -> tuple[flags.FlagHolder, flags.FlagHolder, flags.FlagHolder]:
    """Defines --config and --workdir, which are required, --figures, --grace and --debug.

    Args:
      example: a config that the help names, such as "configs/fig05.py".

    Returns:
      The holders of --config, --workdir and --figures; their `value` is read after absl has parsed the flags, the
      config by `read_config`.
    """
    config = config_flags.DEFINE_config_file("config", None, f"Experiment, for instance {example}, a file that is run "
                                             "as code; override a value with --config.key=value.")
    workdir = define_folder("workdir", None, "Work folder, new or of an interrupted job of the same config; the "
                                  "same for all processes.")
    figures = flags.DEFINE_bool("figures", True, "Draw the figures and tables of the job when it ends.")
    flags.DEFINE_float("grace", signals.GRACE, "Seconds that the epoch under way still has after SIGTERM or Ctrl-C, "
                       "before the process ends without saving it.", lower_bound=0.0)
    flags.DEFINE_bool("debug", False, "Stop at the operation that first gives NaN; several times slower.")
    flags.mark_flags_as_required(["config", "workdir"])
    return config, workdir, figures


def read_config(holder: flags.FlagHolder) -> Any:
    """The config of a `--config` flag, with the overrides of the command line.

    Args:
      holder: of `job_flags`.

    Returns:
      The `ml_collections.ConfigDict`, valid by `validation.validate`.

    Raises:
      InputError: the file cannot be read, or a value cannot be. An error inside the file passes through.
    """
    try:
        config = holder.value
    except OSError as error:
        raise InputError(f"{UNREADABLE} {error}") from error
    for section, key in _FOLDERS:
        folder = config[section][key] if key in config.get(section, {}) else ""
        if isinstance(folder, str) and folder.startswith("~"):
            config[section][key] = os.path.expanduser(folder)
    from margin_jax.validation import validate  # loads JAX, which launch/plot.py does not wait for

    validate(config)
    return config


def _settle() -> None:
    """What the process settles before its job: words on the terminal, the flags of `job_flags`."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # checkpointing libraries tell every file they rename
    for stream in (sys.stdout, sys.stderr):  # a path may have letters that the terminal does not know
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    if "grace" in flags.FLAGS:
        signals.set_grace(flags.FLAGS["grace"].value)
    if "debug" in flags.FLAGS and flags.FLAGS["debug"].value:
        from margin_jax import backend

        backend.trap_nans()
        print("--debug: every result is looked at for NaN, which takes several times as long", file=sys.stderr)


def _explain(error: Exception) -> None:
    """Leaves with a line where the machine is at fault; returns for an error of the program, whose traceback tells."""
    if "jax" in sys.modules:
        from margin_jax import backend

        if problem := backend.platform_problem(error):
            _fail(f"error: {problem}", 2)
    if problem := storage_problem(error):
        if "workdir" in flags.FLAGS and flags.FLAGS["workdir"].value not in problem:
            problem = f"{flags.FLAGS['workdir'].value}: {problem}"
        _fail(f"error: {problem}", 1)


def run(main: Callable[[list[str]], None]) -> None:
    """Runs an absl main; errors meant for the user print their message alone.

    Exit status 2 for an `InputError`, 1 for a `DivergedError` and for a disk that is full, gone or not to be written,
    128 + the number of a signal.

    Args:
      main: takes the arguments that are no flags, as absl passes them.
    """

    def guarded(argv: list[str]) -> None:
        try:
            _settle()
            if len(argv) > 1:
                raise InputError(f"expected flags only, got {' '.join(argv[1:])!r}; write --name=value")
            main(argv)
        except InputError as error:
            _fail(f"error: {error}", 1 if is_full(error) else 2)
        except DivergedError as error:
            _fail(f"diverged: {error}", 1)
        except KeyboardInterrupt:
            _fail(f"stopped by Ctrl-C; {signals.GO_ON}", 130)
        except signals.Interrupted as stop:
            # Without the shutdown of libraries, which may wait for other processes.
            signals.leave(stop.status, str(stop))
        except Exception as error:
            _explain(error)
            raise

    app.run(guarded, flags_parser=_parse)
