"""How a removal rule looks in every figure of a compression: its name, place, colour and marker."""

from collections.abc import Iterable
from typing import NamedTuple

from plots import style

FULL, FROZEN = "full", "frozen"
MAIN = "smallest"  # the paper's rule; every other one is a control or a rival
SCRATCH = "scratch"
BALANCED = "+balanced"
_PURPLE, _SKY = "#CC79A7", "#56B4E9"  # Okabe and Ito


class Look(NamedTuple):
    """A rule's colour and marker; colours repeat after eight, with other markers."""

    colour: str
    marker: str


_LOOKS = {
    FULL: Look("black", "s"), FROZEN: Look(style.GREY, "X"), MAIN: Look(style.VERMILLION, "o"),
    "random": Look(style.BLUE, "v"), "largest": Look(style.ORANGE, "^"), "balanced": Look(style.GREEN, "D"),
    "el2n": Look(_PURPLE, "P"), "grand": Look(_SKY, "*"), "forgetting": Look(style.BLUE, "<"),
    "aum": Look(style.ORANGE, ">"), "ids": Look(style.GREEN, "h"),
}
_NAMES = {FULL: "full data", "el2n": "EL2N", "grand": "GraNd", "aum": "AUM", "ids": "given ids"}


def look(rule: str) -> Look:
    """The look of a rule; one made class by class has its rule's colour and a marker of its own."""
    found = _LOOKS.get(rule.removesuffix(BALANCED), Look(_PURPLE, "p"))
    return found._replace(marker="d") if rule.endswith(BALANCED) else found


def name(rule: str, scope: str = "") -> str:
    """What a legend calls a rule, such as "EL2N, balanced" or "scratch: random"."""
    plain = rule.removesuffix(BALANCED)
    text = _NAMES.get(plain, plain) + (", balanced" if rule.endswith(BALANCED) else "")
    return f"scratch: {text}" if scope == SCRATCH else text


def in_order(found: Iterable[str]) -> list[str]:
    """Distinct rules in the order of every legend: full data and the frozen network first, unknown ones last."""
    places = list(_LOOKS)

    def place(rule: str) -> tuple[int, str]:
        plain = rule.removesuffix(BALANCED)
        return (places.index(plain) if plain in places else len(places), rule)

    return sorted(set(found), key=place)
