"""What a reader must know of the numbers in figure 2, said below its panels."""

from plots import measure_names, paper, verdicts
from plots.fig02_numbers import ABSOLUTE, Numbers
from plots.sweep_folder import VARIED
from plots.verdicts import NONE


def notes(numbers: Numbers) -> list[str]:
    """One sentence or two each: the direction of signs, the std, other readings, the paper's gamma, who is left out."""
    mode = numbers.moment.mode
    rho = f" ρ: {measure_names.MODES.get(mode, mode)}." if mode else ""
    found = [f"Spearman's correlation in the direction of the claim: above 0 supports it; bootstrap 95% interval.{rho}"]
    if verdicts.text(numbers.spread) != "–":
        claim = f" (paper: {paper.FIG02_CLAIMS['init_std']})" if numbers.colour == "init_std" else ""
        found.append(f"{VARIED[numbers.colour].capitalize()} and test error: {verdicts.text(numbers.spread)}{claim}.")
    found += _readings(numbers) + _absolute(numbers)
    if numbers.left_out:
        found.append(f"{numbers.left_out} networks left out: not separated then, or without a finite measure.")
    return found


def _readings(numbers: Numbers) -> list[str]:
    """The paper does not say which area it took: the two readings with a gamma, at the gamma of the count."""
    gamma = numbers.count.partition("@")[2]
    keys = {"“ramp”": f"auc_ramp_pooled@{gamma}", "“tail”": f"auc_tail_pooled@{gamma}"}
    told = [f"{name} {verdicts.text(numbers.agreement[key])}" for name, key in keys.items() if key in numbers.agreement]
    return [f"Other readings of the AUC, at γ = {gamma} × pooled median: {', '.join(told)}."] if told else []


def _absolute(numbers: Numbers) -> list[str]:
    """What the paper's own gamma of the count says here, under each rho that it may have meant."""
    gamma, mode = ABSOLUTE.partition("@")[2], numbers.moment.mode or "all"
    rhos = {key: measure_names.MODES.get("conv" if key.startswith("conv:") else mode, mode)
            for key in numbers.all_covered}
    covering = [rhos[key] for key, covered in numbers.all_covered.items() if covered]
    found = []
    if covering:
        found.append(f"The paper's γ = {gamma} covers all examples of all networks (ρ: {'; '.join(covering)}).")
    for key, covered in numbers.all_covered.items():
        ours = verdicts.text(numbers.agreement.get(key, NONE))
        if not covered and ours != "–":
            found.append(f"At the paper's γ = {gamma} (ρ: {rhos[key]}) the count has {ours}.")
    return found
