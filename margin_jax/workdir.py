"""What lies in a work folder before a job opens it; touches nothing."""

import json
import os
import pathlib
from typing import Any

from margin_jax import records
from margin_jax.config import default_config, flatten
from margin_jax.errors import InputError

# These change no result.
MOVABLE = ("data.dir", "data.cache_dir", "compress.base", "stability.base", "figures",
           "checkpoint_seconds", "log_every_seconds")
NEW, OPEN, OVER = "new", "open", "over"


def difference(stored: Any, wanted: Any) -> list[str]:
    """Lines "key: stored -> wanted" for the keys in which two configs differ, MOVABLE ones left out.

    A key that the stored config lacks came with a later version, and had its default before.
    """
    default, old, new = (json.loads(json.dumps(flatten(config))) for config in (default_config(), stored, wanted))
    old = default | old
    absent = "(absent)"
    return [f"  {key}: {old.get(key, absent)!r} -> {new.get(key, absent)!r}" for key in sorted(old.keys() | new.keys())
            if old.get(key, absent) != new.get(key, absent) and key not in MOVABLE]


def state_of(workdir: str | pathlib.Path, config: Any) -> str:
    """Says what a work folder holds of the run of this config.

    Args:
      workdir: the run folder, which need not exist.
      config: the config of this run, nested.

    Returns:
      NEW for none, OPEN for one to continue, OVER for one that has ended.

    Raises:
      InputError: a run of another config, a folder that holds something else, or no permission.
    """
    if not str(workdir):
        raise InputError("expected --workdir=DIR, a folder for this run, got nothing")
    workdir = pathlib.Path(workdir).absolute()
    parent = next(p for p in (workdir, *workdir.parents) if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to {parent}; choose a --workdir in a folder where you may")
    unborn = {".lock", "config.json.new"}  # what a process leaves that dies before its run has begun
    if not workdir.exists() or not any(p for p in workdir.iterdir() if p.name not in unborn):
        return NEW
    if not (workdir / "config.json").is_file():
        raise InputError(f"{workdir} is not empty and holds no run of margin_jax; choose another --workdir")
    lines = difference(records.read_json(workdir, "config.json")["config"], config)
    over = (workdir / "summary.json").is_file()
    if lines:
        raise InputError(f"{workdir} holds a run {'that is over and never overwritten, ' if over else ''}of another "
                         "config (stored -> given); choose another --workdir or give the stored values:\n"
                         + "\n".join(lines))
    return OVER if over else OPEN


def inspect(workdir: str | pathlib.Path, config: Any) -> bool:
    """Says whether a work folder holds a run to continue; arguments and errors as of `state_of`.

    Raises:
      InputError: also for a run that is over.
    """
    state = state_of(workdir, config)
    if state == OVER:
        status = records.read_json(workdir, "summary.json")["status"]
        raise InputError(f"{pathlib.Path(workdir).absolute()} holds a run that is over ({status}), which is never "
                         "overwritten; choose another --workdir")
    return state == OPEN
