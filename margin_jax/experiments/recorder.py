"""Recording the logits of any framework: what a loop of one's own leaves is the run folder that everything here reads.

    with margin_jax.Recorder(ids, labels, "runs/mine") as recorder:
        for epoch in range(1, 31):
            ...                                          # train as you do
            recorder.update(epoch, batch_ids, logits)    # batches in any order, until each id has come once

An epoch is written when its last example has come and what belongs to it is known, and is on disk from then on. A loop
that was interrupted goes on with the epoch after `recorder.epoch`.
"""

import pathlib
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from margin_jax.config import default_config
from margin_jax.data.dataset import Dataset, Split, digest
from margin_jax.errors import InputError
from margin_jax.experiments import recording, schedule
from margin_jax.experiments.job import packages
from margin_jax.run_folder import read, write
from margin_jax.theory.checks import checked_labels
from margin_jax.theory.scores import Dynamics, aum, el2n, forgetting, fresh_dynamics, present
from margin_jax.training.evaluate import Evaluation, evaluated

RECORDED = "recorded"  # the name of data of which margin_jax knows ids and labels alone
SCORES_FILE = "scores.npz"


class _Epoch:
    """What has come of the epoch under way, row by row in the order of ids."""

    def __init__(self, number: int, count: int) -> None:
        self.number, self.rho = number, 1.0
        self.came = np.zeros(count, bool)
        self.margins, self.losses, self.el2n = (np.empty(count, np.float32) for _ in range(3))
        self.predicted = np.empty(count, np.int32)
        self.test: list[Evaluation] = []


class _Batch(NamedTuple):
    margins: np.ndarray
    losses: np.ndarray
    el2n: np.ndarray
    predicted: np.ndarray


@jax.jit
def _of_logits(logits: jax.Array, labels: jax.Array) -> _Batch:
    values = evaluated(logits, labels)
    return _Batch(values.margins, values.losses, el2n(logits, labels), jnp.argmax(logits, axis=1).astype(jnp.int32))


def _host(values: Any, numbers: bool = True) -> np.ndarray:
    """An array of any framework in host memory; a PyTorch tensor may be on a device and have a gradient."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if numbers else values
    return np.asarray(values)


class Recorder:
    """An open run folder that logits are recorded into; use as a context manager, or call `close`."""

    def __init__(self, ids: Any, labels: Any, workdir: str | pathlib.Path, *, class_names: Sequence[str] = (),
                 true_labels: Any = None, data: dict[str, str] | None = None, after: int | None = None) -> None:
        """Opens a new folder, or goes on with one that was not closed.

        Args:
          ids: (N,) whole numbers, all different, which name the training examples in any order; stable, so that runs
            can be compared.
          labels: (N,) integer classes in 0..C-1, what is trained on.
          workdir: the run folder.
          class_names: C of them; by default the numbers 0..C-1, with C - 1 the largest label.
          true_labels: (N,) integer classes where labels were changed on purpose; for figures and `label_noise`.
          data: `{"name": ..., "dir": ...}` as in a config's section `data`, where margin_jax can load the pictures.
          after: epoch after which an interrupted recording goes on, what was recorded later being cut off; absent: the
            last one recorded.

        Raises:
          InputError: ids or labels that do not fit, or a folder that holds another run, or one that is over.
        """
        ids, labels = _host(ids, False), checked_labels(_host(labels, False))
        true = labels if true_labels is None else checked_labels(_host(true_labels, False), labels.size)
        names = tuple(str(name) for name in class_names) or tuple(map(str, range(int(labels.max(initial=1)) + 1)))
        _check_examples(ids, labels, true, len(names))
        order = np.argsort(ids)
        self.ids = ids[order].astype(np.int64)
        self._labels, self._true = (values[order].astype(np.int32) for values in (labels, true))
        self._config = default_config()
        self._config.data.update(data or {"name": RECORDED})
        self._names, self._now, self._started = names, None, time.monotonic()
        description = self._description()
        if write.inspect(workdir, self._config):
            write.check_origin(workdir, description)
        self._folder = write.RunFolder(workdir)
        try:
            self._begin(description, after)
        except BaseException:
            self._folder.__exit__()
            raise

    def _description(self) -> dict[str, Any]:
        no_pictures = np.empty((self.ids.size, 0, 0, 0), np.uint8)
        train = Split(no_pictures, self._labels, self.ids, self._true)
        empty = Split(no_pictures[:0], self._labels[:0], self.ids[:0], self._labels[:0])
        dataset = Dataset(self._config.data.name, train, empty, self._names)
        return {"job": "recorder", "config": self._config.to_dict(), "versions": packages(), "device": "any",
                "git_revision": "unknown", "data": {
                    "name": dataset.name, "class_names": list(self._names), "train": self.ids.size, "test": 0,
                    "image_shape": [], "digest": digest(dataset)}}

    def _begin(self, description: dict[str, Any], after: int | None) -> None:
        """Starts the folder, or reads what it has up to the epoch `after`."""
        folder, count = self._folder, self.ids.size
        new = not (folder.path / "config.json").is_file()
        if new:
            folder.start(description)
        stored = None if new or not folder.recorded() else read.assembled(folder.path)
        last = int(stored.epochs[-1]) if stored is not None else 0
        if after is not None and not (0 <= after <= last and (after == 0 or after in stored.epochs)):
            raise InputError(f"expected after = one of the {0 if stored is None else stored.epochs.size} epochs that "
                             f"{folder.path} has recorded, the last of which is {last}, or 0, got {after}")
        self.epoch = last if after is None else after
        self._progress, self._seen = schedule.fresh(count, self._config.stop.smallest), fresh_dynamics(count)
        for row in range(0 if stored is None else int(np.searchsorted(stored.epochs, self.epoch, "right"))):
            self._advance(int(stored.epochs[row]), np.asarray(stored.margins[row]))
        del stored  # a map of the file that is cut now
        folder.rewind(self.epoch or -1, count)
        folder.write_mask(ids=self.ids, labels=self._labels, true_labels=self._true, mask=self._progress.mask,
                          removed_epoch=self._progress.removed_epoch)

    def _advance(self, epoch: int, margins: np.ndarray) -> None:
        self._progress = schedule.measured(self._config.stop, epoch, self._progress, margins)
        self._seen = Dynamics(*map(np.asarray, present(self._seen, margins, np.ones(margins.size, bool))))

    def update(self, epoch: int, ids: Any, logits: Any) -> None:
        """Takes the logits of some training examples after an epoch, or while it trains; the same in every epoch.

        Args:
          epoch: 1, 2, ...; epochs may be left out, none may come after a later one.
          ids: (B,) ids of the examples, each once in an epoch.
          logits: (B, C) floating, before softmax; of NumPy, JAX, PyTorch or anything that NumPy understands.

        Raises:
          InputError: an epoch that was recorded, the next one while examples of this one are missing, ids that are
            unknown or came before, or logits of another shape or that are not finite. Nothing of the call is kept.
        """
        now = self._open(epoch)
        ids, logits = np.atleast_1d(_host(ids, False)), _host(logits)
        if logits.shape != (ids.size, len(self._names)) or ids.ndim != 1:
            raise InputError(f"expected logits (B, C) of B = {ids.size} ids and C = {len(self._names)} classes, got "
                             f"{logits.shape}; with other classes give class_names when the recorder is made")
        rows = np.searchsorted(self.ids, ids).clip(max=self.ids.size - 1)
        _check_ids(epoch, ids, self.ids[rows] == ids, "are not among those of the recorder")
        _check_ids(epoch, ids, ~now.came[rows], "came before in it; a sampler that repeats examples needs a pass of "
                   "its own for the record")
        _, places, counts = np.unique(rows, return_inverse=True, return_counts=True)
        _check_ids(epoch, ids, counts[places] == 1, "come twice in one batch")
        values = self._values(epoch, logits, self._labels[rows], ids)
        now.came[rows] = True
        now.margins[rows], now.losses[rows], now.el2n[rows], now.predicted[rows] = values

    def _values(self, epoch: int, logits: np.ndarray, labels: np.ndarray, ids: np.ndarray | None) -> _Batch:
        if not np.issubdtype(logits.dtype, np.floating):
            raise InputError(f"expected floating logits, got {logits.dtype}; give what comes before softmax and argmax")
        logits = logits.astype(np.float32)
        bad = ~np.isfinite(logits).all(axis=1)
        if bad.any():
            which = f"of id {ids[bad][0]}" if ids is not None else f"in row {np.flatnonzero(bad)[0]} of the test set"
            raise InputError(f"expected finite logits, got NaN or infinity {which} and {bad.sum() - 1} others in epoch "
                             f"{epoch}; the network has diverged, or computes in half precision that overflows")
        size = 1 << max(labels.size - 1, 0).bit_length()  # few programs, whatever the sizes of batches
        padded = np.zeros((size, logits.shape[1]), np.float32), np.zeros(size, np.int32)
        padded[0][:labels.size], padded[1][:labels.size] = logits, labels
        return _Batch(*(np.asarray(values)[:labels.size] for values in _of_logits(*padded)))

    def update_test(self, epoch: int, logits: Any, labels: Any) -> None:
        """Takes the logits of some test examples of an epoch; without any, test error and loss are not a number.

        Args:
          epoch: the one under way.
          logits: (B, C) as of `update`.
          labels: (B,) integer classes.

        Raises:
          InputError: as of `update`.
        """
        now, logits = self._open(epoch), _host(logits)
        labels = checked_labels(_host(labels, False))
        if logits.shape != (labels.size, len(self._names)):
            raise InputError(f"expected logits (B, C) of B = {labels.size} labels and C = {len(self._names)} classes, "
                             f"got {logits.shape}")
        values = self._values(epoch, logits, labels, None)
        now.test.append(Evaluation(values.margins, values.losses))

    def set_rho(self, epoch: int, rho: float) -> None:
        """Gives the product of layer norms after an epoch, by which its margins are normalised; 1 without.

        `margin_jax.rho` takes any pytree of arrays, such as a dictionary of NumPy arrays by layer.

        Raises:
          InputError: as of `update`, or no number > 0.
        """
        if not rho > 0 or not np.isfinite(rho):
            raise InputError(f"expected rho > 0, got {rho}")
        self._open(epoch).rho = float(rho)

    def _open(self, epoch: int) -> _Epoch:
        """The epoch under way, the one before being written."""
        if not hasattr(self, "_folder"):
            raise InputError("expected an open recorder, got one that was closed")
        if isinstance(epoch, bool) or not isinstance(epoch, int | np.integer) or not 1 <= epoch < 2**31:
            raise InputError(f"expected an epoch as a whole number >= 1, got {epoch!r}")
        if self._now is None or epoch > self._now.number:
            self.flush()
            if epoch <= self.epoch:
                raise InputError(f"expected an epoch after {self.epoch}, which is recorded already, got {epoch}; to go "
                                 f"back, make the recorder anew with after={max(epoch - 1, 0)}")
            self._now = _Epoch(int(epoch), self.ids.size)
        if epoch < self._now.number:
            raise InputError(f"expected examples of epoch {self._now.number}, which is under way, got epoch {epoch}")
        return self._now

    def flush(self) -> None:
        """Writes the epoch under way, if there is one; the next one's first batch does so too.

        Raises:
          InputError: examples of it are missing.
        """
        now = self._now
        if now is None:
            return
        missing = self.ids[~now.came]
        if missing.size:
            raise InputError(f"epoch {now.number} lacks {missing.size} of {self.ids.size} examples, the first of them "
                             f"id {missing[0]}; update it with them before the next epoch")
        train = Evaluation(now.margins, now.losses)
        test = Evaluation(*(np.concatenate(values) for values in zip(*now.test, strict=True))) if now.test else None
        self._advance(now.number, now.margins)
        row = recording.metrics_row(now.number, train, test or train, self._progress.mask, now.rho,
                                    time.monotonic() - self._started)
        if test is None:
            row |= {"test_loss": float("nan"), "test_error": float("nan")}
        self._folder.record(row, now.margins)
        self._folder.write_arrays(SCORES_FILE, epoch=np.int32(now.number), ids=self.ids, predicted=now.predicted,
                                  loss=now.losses, el2n=now.el2n, aum=np.asarray(aum(self._seen)),
                                  forgetting=np.asarray(forgetting(self._seen)))
        self._folder.marks()  # on disk
        self.epoch, self._now = now.number, None

    def close(self) -> dict[str, Any]:
        """Writes the epoch under way and closes the run, which then is never changed again.

        Returns:
          What summary.json holds.

        Raises:
          InputError: examples of the last epoch are missing, or nothing was recorded.
        """
        self.flush()
        if not self.epoch:
            raise InputError(f"expected one recorded epoch at least before {self._folder.path} is closed, got none")
        summary = recording.summarise_run(self._config, self._folder.path, self._progress, "finished")
        self._folder.finish(summary)
        self._release()
        return summary

    def _release(self) -> None:
        if hasattr(self, "_folder"):
            self._folder.__exit__()
            del self._folder

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Closes the run; after an error it stays open on disk, to be gone on with."""
        if kind is None and hasattr(self, "_folder"):
            self.close()
        self._release()


def _check_examples(ids: np.ndarray, labels: np.ndarray, true: np.ndarray, classes: int) -> None:
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer) or ids.shape != labels.shape or not ids.size:
        raise InputError(f"expected ids (N,) of whole numbers and as many labels, got {ids.dtype} {ids.shape} and "
                         f"{labels.shape}")
    if np.unique(ids).size != ids.size or ids.min() < 0:
        raise InputError(f"expected ids >= 0 that are all different, got {ids.size - np.unique(ids).size} repeats and "
                         f"{(ids < 0).sum()} below 0")
    for values in (labels, true):
        if classes < 2 or values.min() < 0 or values.max() >= classes:
            raise InputError(f"expected labels in 0..C-1 with C >= 2, here C = {classes}, got {values.min()} to "
                             f"{values.max()}; give class_names for every class")


def _check_ids(epoch: int, ids: np.ndarray, good: np.ndarray, fault: str) -> None:
    if not good.all():
        raise InputError(f"expected each example of epoch {epoch} once, got {(~good).sum()} ids that {fault}; the "
                         f"first is {ids[~good][0]}")


def as_recorded(workdir: str | pathlib.Path) -> dict[str, np.ndarray]:
    """What a recording knows of every example at its last epoch.

    Returns:
      epoch (): of the numbers; ids, predicted, loss, el2n, aum, forgetting, each (N,).

    Raises:
      InputError: no such file, or a damaged one.
    """
    path = pathlib.Path(workdir) / SCORES_FILE
    if not path.is_file():
        raise InputError(f"{workdir} has no {SCORES_FILE}, which a margin_jax.Recorder writes with every epoch")
    return read.read_arrays(path)


ARRAYS = ("logits", "labels", "ids", "epochs", "true_labels", "class_names", "test_logits", "test_labels", "rho")


def record_arrays(path: str | pathlib.Path, workdir: str | pathlib.Path) -> dict[str, Any]:
    """Records logits that lie in an .npz, of one epoch or of many, as a `Recorder` would have; goes on with its folder.

    Args:
      path: a file with the arrays logits (E, N, C) or (N, C) and labels (N,); and, where they are known, ids (N,), by
        default 0..N-1; epochs (E,), by default 1..E; true_labels (N,); class_names (C,); test_logits (E, M, C) or
        (M, C) with test_labels (M,); rho (E,).
      workdir: the run folder.

    Returns:
      What summary.json holds.

    Raises:
      InputError: no such file, arrays that do not fit each other, or what `Recorder` refuses.
    """
    arrays = _read_arrays(pathlib.Path(path))
    logits, labels = arrays["logits"], arrays["labels"]
    ids, epochs = arrays.get("ids", np.arange(labels.size)), arrays.get("epochs", np.arange(1, len(logits) + 1))
    sizes = {"epochs": len(logits), "rho": len(logits), "test_logits": len(logits), "ids": labels.size}
    for name, size in sizes.items():
        if name in arrays and len(arrays[name]) != size:
            raise InputError(f"{path}: expected {name} of length {size}, as logits and labels say, got "
                             f"{arrays[name].shape}")
    if not (np.issubdtype(epochs.dtype, np.integer) and (epochs[:1] > 0).all() and (np.diff(epochs) > 0).all()):
        raise InputError(f"{path}: expected epochs as ascending whole numbers >= 1, got {epochs.tolist()[:10]}")
    names = tuple(map(str, arrays.get("class_names", np.arange(logits.shape[-1]))))
    with Recorder(ids, labels, workdir, class_names=names, true_labels=arrays.get("true_labels")) as recorder:
        for row, epoch in enumerate(epochs.tolist()):
            if epoch <= recorder.epoch:
                continue
            recorder.update(epoch, ids, logits[row])
            if "test_logits" in arrays:
                recorder.update_test(epoch, arrays["test_logits"][row], arrays["test_labels"])
            if "rho" in arrays:
                recorder.set_rho(epoch, float(arrays["rho"][row]))
        return recorder.close()


def _read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name, logits with an axis of epochs."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except read.NOT_NPZ as error:
        raise InputError(f"cannot read {path} as an .npz ({error}); write one with np.savez({path.name!r}, "
                         "logits=logits, labels=labels)") from error
    unknown, lacking = sorted(set(arrays) - set(ARRAYS)), [name for name in ARRAYS[:2] if name not in arrays]
    if unknown or lacking or ("test_logits" in arrays) != ("test_labels" in arrays):
        raise InputError(f"{path}: expected the arrays logits and labels, and of {', '.join(ARRAYS[2:])} those that "
                         f"are known, test_logits with test_labels; got {', '.join(sorted(arrays)) or 'none'}")
    for name in ("logits", "test_logits"):
        if name in arrays:
            if arrays[name].ndim not in (2, 3):
                raise InputError(f"{path}: expected {name} (epochs, examples, classes) or (examples, classes), got "
                                 f"{arrays[name].shape}")
            arrays[name] = arrays[name][None] if arrays[name].ndim == 2 else arrays[name]
    return arrays
