"""The table of verdicts: every claim of claims.json judged by the rule of docs/verdicts.md, as CSV and as Markdown."""

import csv
import json
import math
import pathlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from margin_jax.errors import InputError
from margin_jax.statistics import hypotheses, verdicts
from margin_jax.statistics.hypotheses import Evidence
from margin_jax.statistics.verdicts import Claim, Judgement
from plots import paper, style
from plots.verdicts import evidence
from plots.verdicts.evidence import NotReached

CLAIMS, CSV, MARKDOWN = "claims.json", "verdicts.csv", "verdicts.md"
KINDS = ("number", "order", "none", "mathematics")
PAPER = "paper"  # the setting of a claim that is judged where the paper made it
# Equivalence margins by quantity, in its unit, and digits to print; docs/verdicts.md says why.
MARGINS = {"test error": 1.0, "points": 2.0, "share": 10.0, "count": 5.0, "correlation": 0.2, "ratio": None,
           "epochs": None, "margin": None, "relative": None}
DIGITS = {"test error": 2, "points": 2, "share": 1, "count": 1, "correlation": 2, "ratio": 2, "epochs": 0}
RATIO = (0.80, 1.25)
COLUMNS = ("id", "figure", "claim", "kind", "number", "margin", "folder", "setting", "data", "n", "unit", "value",
           "low", "high", "by_seed", "family", "p_value", "p_adjusted", "verdict", "reason")
REQUIRED = {"id", "figure", "claim", "kind", "quantity", "folder", "estimate", "setting", "data", "unit"}
OPTIONAL = {"number", "above", "below", "family", "open", "each", "detail", "stated"}


class Verdict(NamedTuple):
    """A claim as claims.json has it, what our tables say, and the verdict with its reason.

    `numbers` is the word that the numbers alone give, were the setting the paper's and nothing drawn once; `by_seed`
    the counts of each seed behind a share, such as "4, 4, 4 of 20".
    """

    claim: dict[str, Any]
    evidence: Evidence
    judgement: Judgement
    reason: str
    numbers: str
    by_seed: str = ""


def read_claims(path: pathlib.Path) -> list[dict[str, Any]]:
    """The claims of a JSON file, checked.

    Raises:
      InputError: keys that lack or are unknown, names that no function or margin has, or an id that stands twice.
    """
    claims = json.loads(path.read_text(encoding="utf-8"))
    for claim in claims:
        known = set(claim) >= REQUIRED and set(claim) <= REQUIRED | OPTIONAL
        if not known or claim["kind"] not in KINDS or claim["quantity"] not in MARGINS \
                or claim["estimate"].get("from") not in evidence.QUANTITIES:
            raise InputError(f"claim {claim.get('id')} of {path} lacks a key, has an unknown one, or names a kind, "
                             f"quantity or estimate that is none; expected {sorted(REQUIRED)}, kinds {KINDS}, "
                             f"quantities {tuple(MARGINS)}, estimates {tuple(evidence.QUANTITIES)}")
    twice = [name for name, times in Counter(claim["id"] for claim in claims).items() if times > 1]
    if twice:
        raise InputError(f"expected ids that stand once in {path}, got {twice} twice; rename one of them")
    return claims


def judge(results: pathlib.Path, claims: Sequence[dict[str, Any]]) -> list[Verdict]:
    """Judges all claims, families together; one of "each" cell is followed by its cells."""
    rows = [row for claim in claims for row in ([claim, *_cells(results, claim)] if "each" in claim else [claim])]
    data = [_evidence(results, row) for row in rows]
    judgements = _judgements(rows, [measured for measured, _ in data])
    out = []
    for row, (measured, reached), judgement in zip(rows, data, judgements, strict=True):
        out.append(_settle(row, measured, judgement, reached)._replace(by_seed=_counts(results, row)))
    return [_together(verdict, out) if "each" in verdict.claim else verdict for verdict in out]


def _cells(results: pathlib.Path, claim: dict[str, Any]) -> list[dict[str, Any]]:
    """The claim for every cell of its grid that has a drop; of a number, that of the paper's table."""
    rows, how = [], claim["estimate"]
    for cell in evidence.cells_of(results / claim["folder"], how["scope"]):
        number = paper.table1_drop("convnet", "sgd", cell[0], int(cell[1]))
        if claim["kind"] == "number" and (number is None or math.isnan(number)):
            continue
        row = {key: value for key, value in claim.items() if key != "each"}
        row |= {"id": f"{claim['id']}/{cell[0]:g}/{cell[1]:g}", "detail": True, "estimate": how | {"cell": cell},
                "claim": f"{claim['claim']}: rate {cell[0]:g}, batch {cell[1]:g}"}
        rows.append(row | ({"number": number} if claim["kind"] == "number" else {}))
    return rows


def _evidence(results: pathlib.Path, claim: dict[str, Any]) -> tuple[Evidence, str]:
    """Our number, or none and why the moment of the claim was not reached."""
    if "each" in claim:
        return hypotheses.NONE, ""
    arguments = dict(claim["estimate"])
    compute = evidence.QUANTITIES[arguments.pop("from")]
    try:
        return compute(results / claim["folder"], **arguments), ""
    except NotReached as reason:
        return hypotheses.NONE, str(reason)


def _counts(results: pathlib.Path, claim: dict[str, Any]) -> str:
    how = claim["estimate"]
    if how["from"] != "support_share":
        return ""
    hits = evidence.support_hits(results / claim["folder"], how["moment"], how["k"])
    return f"{', '.join(map(str, hits))} of {how['k']}"


def region(claim: dict[str, Any]) -> Claim:
    """The region in which a claim is true."""
    if claim["kind"] == "order":
        return Claim(-math.inf, claim["below"]) if "below" in claim else Claim(claim.get("above", 0.0), math.inf)
    if claim["quantity"] == "ratio":
        return Claim(claim["number"] * RATIO[0], claim["number"] * RATIO[1], (claim["number"], claim["number"]))
    return verdicts.number_claim(claim["number"], MARGINS[claim["quantity"]])


def _judgements(rows: Sequence[dict[str, Any]], data: Sequence[Evidence]) -> list[Judgement]:
    families: dict[str, list[int]] = defaultdict(list)
    judged = [Judgement(verdicts.OPEN, math.nan, math.nan)] * len(rows)
    for place, row in enumerate(rows):
        if row["kind"] != "mathematics" and "each" not in row and ("number" in row or row["kind"] == "order"):
            families[row.get("family") or row["id"]].append(place)
    for places in families.values():
        family = verdicts.judge_family([data[place] for place in places], [region(rows[place]) for place in places])
        for place, judgement in zip(places, family, strict=True):
            judged[place] = judgement
    return judged


def _settle(row: dict[str, Any], measured: Evidence, judgement: Judgement, reached: str) -> Verdict:
    """The verdict after what no interval knows: moments not reached, sources of chance drawn once, other settings."""
    word, reason = judgement.verdict, _why_open(measured, judgement)
    if reached:
        word, reason = verdicts.NOT_TESTABLE, reached
    elif row["kind"] == "mathematics":
        holds = abs(measured.estimate.value) <= evidence.ROUNDING
        word = verdicts.REPRODUCED if holds else verdicts.CONTRADICTED
        reason = "to rounding" if holds else "beyond rounding"
    forced = [] if reached else _forced(row)
    if forced:
        reason = "; ".join(forced) + ("" if word == verdicts.OPEN else f"; else {word}")
    return Verdict(row, measured, judgement._replace(verdict=verdicts.OPEN if forced else word), reason, word)


def _forced(row: dict[str, Any]) -> list[str]:
    """Why a claim is open whatever the numbers say."""
    reasons = [row["open"]] if row.get("open") else []
    if row["kind"] == "number" and row["setting"] != PAPER:
        reasons.append(f"{row['setting']}, not the setting of the number")
    return reasons


def _why_open(measured: Evidence, judgement: Judgement) -> str:
    if judgement.verdict != verdicts.OPEN:
        return ""
    if measured.estimate.n < verdicts.FEWEST_UNITS:
        return "fewer than three units" if measured.estimate.n else "not run"
    return "" if np.isfinite(measured.estimate.low) else "no interval"


def _together(verdict: Verdict, rows: Sequence[Verdict]) -> Verdict:
    """The row of a claim on all cells: the verdict of all, and how many have which."""
    parts = [row for row in rows if row.claim["id"].startswith(verdict.claim["id"] + "/")]
    words = Counter(row.numbers for row in parts)
    reasons = [f"{words[word]} {word}" for word in verdicts.WORDS if words[word]]
    reason = "; ".join([", ".join(reasons) + f" of {len(parts)} cells", *_forced(verdict.claim)])
    word = verdicts.together([row.judgement.verdict for row in parts])
    n = max((row.evidence.estimate.n for row in parts), default=0)
    return verdict._replace(judgement=verdict.judgement._replace(verdict=word), reason=reason,
                            evidence=hypotheses.NONE._replace(estimate=hypotheses.NONE.estimate._replace(n=n)))


def write(results: pathlib.Path, rows: Sequence[Verdict]) -> list[pathlib.Path]:
    """Writes verdicts.csv and verdicts.md beside the claims; returns their paths."""
    folder = results / "verdicts"
    with open(folder / CSV, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(map(_csv_row, rows))
    detail = [row for row in rows if row.claim.get("detail")]
    text = ("# Verdicts\n\nComputed by `python launch/verdicts.py --results=results`; the rule is in docs/verdicts.md."
            f"\n\n{markdown(rows)}\n\n## Cells, other moments and other readings\n\n{_table(detail)}\n")
    (folder / MARKDOWN).write_text(text, encoding="utf-8")
    return [folder / CSV, folder / MARKDOWN]


def _csv_row(row: Verdict) -> dict[str, Any]:
    claim, estimate = row.claim, row.evidence.estimate
    ends = {name: _short(getattr(estimate, name)) for name in ("value", "low", "high")}
    judged = {"p_value": _short(row.judgement.p_value, 2), "p_adjusted": _short(row.judgement.p_adjusted, 2)}
    number = claim.get("number", "")
    return {name: claim.get(name, "") for name in COLUMNS} | ends | judged | {
        "number": " to ".join(map(str, number)) if isinstance(number, list) else number,
        "margin": _margin_text(claim), "n": estimate.n, "by_seed": row.by_seed, "verdict": row.judgement.verdict,
        "reason": row.reason}


def _margin_text(claim: dict[str, Any]) -> str:
    if claim["kind"] not in ("number", "none"):
        return ""
    if claim["quantity"] == "ratio":
        return f"{RATIO[0]:g} to {RATIO[1]:g} times"
    return str(MARGINS[claim["quantity"]] or "")


def _short(value: float, digits: int = 6) -> str:
    return f"{value:.{digits}g}" if np.isfinite(value) else ""


def markdown(rows: Sequence[Verdict]) -> str:
    """The main table, without details: the one that results/README.md shows."""
    return _table([row for row in rows if not row.claim.get("detail")])


HEADINGS = ("of the paper", "claim", "the paper's number", "ours, 95% interval", "n", "p, corrected", "verdict",
            "setting", "folder")


def _table(rows: Sequence[Verdict]) -> str:
    lines = [HEADINGS, ("---",) * len(HEADINGS), *map(_line, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _line(row: Verdict) -> tuple[str, ...]:
    claim = row.claim
    verdict = f"**{row.judgement.verdict}**" + (f": {row.reason}" if row.reason else "")
    return (claim["figure"], claim["claim"], _stated(claim), ours(row),
            _units(row), _p_text(row), verdict, claim["data"], f"`{claim['folder']}`" if claim["folder"] else "–")


def _stated(claim: dict[str, Any]) -> str:
    if claim.get("stated"):
        return claim["stated"]
    number = claim.get("number")
    if claim["kind"] != "number" or number is None:
        return "–"
    return " to ".join(f"{end:g}" for end in number) if isinstance(number, list) else f"{number:g}"


def _units(row: Verdict) -> str:
    n = row.evidence.estimate.n
    return f"{n} {row.claim['unit']}" + "s" * (n > 1) if n else "–"


def _p_text(row: Verdict) -> str:
    """None where fewer units than the rule asks for would make it one of examples."""
    p_value = row.judgement.p_adjusted
    if not np.isfinite(p_value) or row.evidence.estimate.n < verdicts.FEWEST_UNITS:
        return "–"
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def ours(row: Verdict) -> str:
    """Our number with its interval, such as "0.45 (0.30 to 0.60)", and the counts of seeds behind a share."""
    value, low, high, _ = row.evidence.estimate
    if not np.isfinite(value):
        return "–"
    text = _number(value, row.claim)
    if np.isfinite(low):
        text += f" ({_number(low, row.claim)} to {_number(high, row.claim)})"
    return f"{text}: {row.by_seed}" if row.by_seed else text


def _number(value: float, claim: dict[str, Any]) -> str:
    digits = DIGITS.get(claim["quantity"])
    return style.signed(f"{value:.2g}" if digits is None else f"{value + 0.0:.{digits}f}")
