"""Tables of the work folder of a compression or sweep: their columns, and reading them without JAX, also meanwhile."""

import csv
import io
import pathlib
from typing import Any

import numpy as np

from margin_jax.errors import InputError
from margin_jax.run_folder import checksums

FROZEN, FULL, FULL_UPDATES, BASE = "frozen", "full", "full_updates", "base"
AFTER, SCRATCH, WHOLE_RUN = "after", "scratch", "whole_run"
Row = dict[str, Any]
VARIED = ("init_std", "learning_rate", "weight_decay", "random_fraction", "batch_norm")  # all but the seed
# What makes networks of another kind, whose rho or whose labels are not those of the others.
KINDS = ("random_fraction", "batch_norm")


# One row per compression: a rule, a seed, a count kept, and the settings after the removal.
CELLS = ("optimizer", "learning_rate", "batch_size", "rule", "seed", "kept", "scope", "test_error", "drop", "moved",
         "updates", "status", "epochs", "loss_start", "loss_end", "train_error", "drop_frozen", "reason", "base")
# One row per recorded epoch of each of them.
CURVES = ("optimizer", "init_std", "seed", "rule", "kept", "scope", "epoch", "train_loss", "train_error", "test_loss",
          "test_error")
# One row per removal of a continuous compression; step 0 is the state before the first.
REMOVALS = ("step", "kept", "epochs", "separated", "test_error", "rule", "seed", "optimizer", "init_std", "epoch",
            "loss", "moved")
# One row per measure, target, statistic and moment of a sweep.
AUDIT = ("measure", "target", "statistic", "value", "low", "high", "networks", "moment")
# One row per trial of replace-one stability: how the network trained on with a point replaced differs from the one
# trained on without (errors in points, margins normalised); labels and normalised margins of the two points at the
# separated network; training error of the first, and its relative parameter distance from the second.
TRIALS = ("trial", "choice", "out_id", "in_id", "d_test_loss", "d_test_error", "d_rho", "d_output", "d_margin_min",
          "out_label", "in_label", "out_margin", "in_margin", "train_error", "moved", "status", "reason")
# One row per epoch whose neural collapse was taken: NC1 to NC4 of the kept training examples, shares from 0 to 1; of
# the test set NC1 around its own class means, and NC4 with those of the training examples.
COLLAPSE = ("epoch", "nc1", "nc2_norms", "nc2_angles", "nc2_norms_weights", "nc2_angles_weights", "nc3", "nc4",
            "nc1_test", "nc4_test")
# One row per equation of appendix B, layer, minimum, choice of examples, draw and number of them removed; `residual`,
# `relative`, `change` and `weight` as of margin_jax.theory.deletion.Residual, `examples` those that are left.
DELETION = ("equation", "layer", "minimum", "choice", "draw", "removed", "examples", "residual", "relative", "change",
            "weight")
# One row per network of a sweep, and then a column per measure; moments.csv has the column `moment` before them.
NETWORKS = ("network", "init_std", "seed", "learning_rate", "weight_decay", "random_fraction", "batch_norm", "status",
            "epoch", "separation_epoch", "convergence_epoch", "train_loss", "train_error", "test_loss", "test_error",
            "rho", "margin_min", "margin_auc")
LATER = ("batch_norm",)  # columns that tables of earlier versions lack: NaN there
# Where networks of a sweep are compared: data separation, the first record whose training loss is small enough, margin
# convergence, the end of training.
MOMENTS = ("separation", "loss", "convergence", "end")
COLUMNS = {"cells.csv": CELLS, "curves.csv": CURVES, "removals.csv": REMOVALS, "audit.csv": AUDIT, "trials.csv": TRIALS,
           "collapse.csv": COLLAPSE, "deletion.csv": DELETION}
_JOBS = {"audit.csv": "launch/sweep.py", "trials.csv": "launch/stability.py", "deletion.csv": "launch/stability.py",
         "collapse.csv": "launch/train.py with record.collapse_every"}
KEPT_IDS = "kept_ids.json"
# The other columns are numbers.
TEXT = ("optimizer", "rule", "scope", "status", "reason", "base", "measure", "target", "statistic", "moment",
        "choice", "layer", "minimum")
WHOLE = ("batch_size", "seed", "kept", "updates", "epochs", "epoch", "step", "separated", "network", "networks",
         "separation_epoch", "convergence_epoch", "batch_norm",
         "trial", "out_id", "in_id", "out_label", "in_label", "equation", "draw", "removed", "examples")

Table = dict[str, np.ndarray]


def read_table(workdir: str | pathlib.Path, name: str, required: bool = True) -> Table:
    """Columns of one table, each (R,): str for those of `TEXT`, else float64 with NaN where a cell is empty.

    Errors and drops are in percent, losses in nats. A line still being written is left out.

    Args:
      workdir: the work folder of launch/compress.py, of a job that is over or goes on.
      name: a key of `COLUMNS`.
      required: whether a table that is absent or has no row is an error; else its columns are empty.

    Raises:
      InputError: no table or no row where required, other columns than those of `COLUMNS`, or a broken line.
    """
    path, columns = pathlib.Path(workdir) / name, COLUMNS[name]
    if not path.is_file():
        checksums.check_absent(path)
        if required:
            raise InputError(f"{path.parent} has no {name}: nothing is recorded yet, or another job made the folder; "
                             f"give the --workdir of {_JOBS.get(name, 'launch/compress.py')}")
        return _columns([], columns, path)
    rows = _lines(path)
    if rows and tuple(rows[0]) != columns:
        raise InputError(f"{path} should have the columns {', '.join(columns)}, got {', '.join(rows[0])}; "
                         "another version may have written it: run the job again in a new folder")
    if required and len(rows) < 2:
        raise InputError(f"{path} has no row yet; wait until the job has recorded one")
    return _columns(rows[1:], columns, path)


def read_networks(workdir: str | pathlib.Path, name: str = "networks.csv") -> Table:
    """Columns of networks.csv, or of moments.csv, of a sweep that is over, each (R,), as `read_table` gives them.

    Raises:
      InputError: no such table, one without the columns `NETWORKS`, or a broken line.
    """
    path = pathlib.Path(workdir) / name
    if not path.is_file():
        raise InputError(f"{path.parent} has no {name}, which a sweep writes when all networks are trained; give the "
                         "--workdir of launch/sweep.py, or run its command again to continue it")
    rows = _lines(path)
    if not rows or not set(NETWORKS) - set(LATER) <= set(rows[0]):
        raise InputError(f"{path} should have the columns {', '.join(NETWORKS)}, got "
                         f"{', '.join(rows[0]) if rows else 'nothing'}; run the sweep again in a new folder")
    table = _columns(rows[1:], tuple(rows[0]), path)
    return {name: np.full(len(rows) - 1, np.nan) for name in LATER} | table


def _lines(path: pathlib.Path) -> list[list[str]]:
    try:
        text = checksums.checked_bytes(path).decode("utf-8")
        return list(csv.reader(io.StringIO(text[:text.rfind("\n") + 1], newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise checksums.damaged(path, error) from error


def _columns(rows: list[list[str]], columns: tuple[str, ...], path: pathlib.Path) -> Table:
    for line, row in enumerate(rows, 2):
        if len(row) != len(columns):
            raise InputError(f"{path}, line {line}: expected {len(columns)} cells, got {len(row)}; "
                             "remove the line, or run the compression again in a new folder")
    table: Table = {}
    for place, column in enumerate(columns):
        cells = [row[place] for row in rows]
        try:
            table[column] = np.array(cells, np.str_) if column in TEXT else np.array([c or "nan" for c in cells],
                                                                                      np.float64)
        except ValueError as error:
            raise InputError(f"{path}: the column {column} should hold numbers ({error}); "
                             "run the compression again in a new folder") from error
    return table


def read_kept_ids(workdir: str | pathlib.Path) -> list[dict[str, Any]]:
    """What each compression kept: optimizer, init_std, seed, rule, scope, kept and ids (from the smallest margin on).

    Raises:
      InputError: no such file, or one that is not whole.
    """
    path = pathlib.Path(workdir) / KEPT_IDS
    if not path.is_file():
        raise InputError(f"{path.parent} has no {KEPT_IDS}: nothing is removed yet, or another job made the folder; "
                         "give the --workdir of launch/compress.py")
    return checksums.parsed(path, checksums.checked_bytes(path))


def rows(table: Table, **wanted: Any) -> Table:
    """The rows of a table whose columns have the wanted values; NaN finds empty cells.

    Args:
      table: columns, each (R,).
      **wanted: a value per column, or a tuple of those allowed.

    Returns:
      The same columns, each (r,) with r <= R.
    """
    keep = np.ones(next(iter(table.values())).size, bool)
    for column, values in wanted.items():
        allowed = np.zeros(keep.size, bool)
        for value in values if isinstance(values, tuple) else (values,):
            allowed |= np.isnan(table[column]) if value != value else table[column] == value
        keep &= allowed
    return {column: values[keep] for column, values in table.items()}


def rows_of(table: Table) -> list[dict[str, Any]]:
    """The rows of a table, whole numbers of the columns `WHOLE` as such."""
    rows = [{name: column[row].item() for name, column in table.items()}
            for row in range(len(next(iter(table.values()))))]
    return [{name: int(value) if name in WHOLE and value == value else value for name, value in row.items()}
            for row in rows]


def rule_name(rule: str, balanced: bool) -> str:
    """A rule as tables write it: "smallest", or "smallest+balanced" class by class."""
    return rule + "+balanced" * balanced
