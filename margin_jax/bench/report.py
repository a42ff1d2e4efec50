"""benchmark.json and the same as a Markdown table."""

import json
import pathlib
from typing import Any

from margin_jax.bench.timing import Pairing


def make_row(name: str, pairing: Pairing, wanted: float | None, against: str) -> dict[str, Any]:
    """A row as it is saved: seconds of one call (of one network's part, for many), ratio with its quartiles."""
    return {"name": name, "ours_seconds": pairing.ours, "theirs_seconds": pairing.theirs, "ratio": pairing.ratio,
            "low": pairing.low, "high": pairing.high, "wanted": wanted, "theirs": against}


def markdown(rows: list[dict[str, Any]], machine: dict[str, str]) -> str:
    """The table, with a mark in the rows whose ratio is not the one wanted."""
    lines = ["| work | ours, ms | theirs, ms | ratio (quartiles) | wanted | theirs is |", "|---|---|---|---|---|---|"]
    for row in rows:
        wanted = "" if row["wanted"] is None else f"≤ {row['wanted']:g}"
        if row["wanted"] is not None and row["ratio"] > row["wanted"]:
            wanted += " **missed**"
        lines.append(f"| {row['name']} | {1e3 * row['ours_seconds']:.4g} | {1e3 * row['theirs_seconds']:.4g} | "
                     f"{row['ratio']:.3g} ({row['low']:.3g}–{row['high']:.3g}) | {wanted} | {row['theirs']} |")
    return "\n".join([*lines, "", "; ".join(f"{key} {value}" for key, value in machine.items()), ""])


def save(folder: pathlib.Path, rows: list[dict[str, Any]], machine: dict[str, str]) -> None:
    """Writes benchmark.json and benchmark.md; call after every row, so that nothing measured is lost."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine, "rows": rows}
    (folder / "benchmark.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / "benchmark.md").write_text(markdown(rows, machine), encoding="utf-8")
