"""What a person sees while a run goes on: a tqdm bar on a terminal, plain lines elsewhere."""

import sys
import time

from tqdm import tqdm


class Reporter:
    """Shows epochs; use as a context manager."""

    def __init__(self, total: int, done: int, every_seconds: float, unit: str = "epoch") -> None:
        """Args: total epochs expected at most, epochs done before, seconds between plain lines, what is counted."""
        self._every, self._told, self._unit = every_seconds, -float("inf"), unit
        self._first: tuple[int, float] | None = None  # epoch and time after compilation, from which pace is measured
        self._total, self._terminal = total, sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=done, unit=unit, dynamic_ncols=True, disable=not self._terminal)

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def epoch(self, epoch: int, kept: int, seen_loss: float, row: dict[str, float] | None) -> None:
        """Shows one finished epoch; `row` is its record, if one was taken."""
        fields = {"loss": f"{seen_loss:.4g}", "kept": kept}
        if row:
            fields |= {"train": f"{row['train_error']:.2f}%", "test": f"{row['test_error']:.2f}%",
                       "margin": f"{row['margin_min']:.3g}"}
        self.show(epoch, fields)

    def show(self, epoch: int, fields: dict[str, object]) -> None:
        """Shows how far a run is after an epoch."""
        self._bar.set_postfix(fields, refresh=False)
        self._bar.update(epoch - self._bar.n)
        now = time.monotonic()
        self._first = self._first or (epoch, now)
        if not self._terminal and now - self._told >= self._every:
            self._told = now
            self.say(f"{self._unit} {epoch}/{self._total}  " + "  ".join(f"{k} {v}" for k, v in fields.items())
                     + self._left(epoch, now))

    def _left(self, epoch: int, now: float) -> str:
        assert self._first is not None
        done = epoch - self._first[0]
        return f"  left {(now - self._first[1]) / done * (self._total - epoch):.0f} s at most" if done else ""

    def say(self, line: str) -> None:
        """Prints a line without breaking the bar."""
        if self._terminal:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)
