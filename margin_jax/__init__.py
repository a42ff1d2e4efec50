"""margin_jax: the classification margins of every training example, in JAX and Flax.

    import margin_jax as mj

    eta = mj.network_margins(apply_fn, params, images, labels)  # (N,) margins on logits
    normalised = eta / mj.rho(params)                            # rho, the product of layer norms
    mask = mj.select("smallest", eta, keep=200)                  # (N,) boolean, what training goes on with

Every public name of the library is shown here; a name is loaded at its first use (PEP 562). Importing the package loads
nothing else, so that a script which only reads run folders or draws figures never waits for JAX.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "errors": ("InputError", "DivergedError"),
    "config": ("default_config",),
    # margins and their distribution
    "theory.margins": ("margin", "margins", "network_margins"),
    "theory.distribution": ("normalised_margins", "margin_curve", "separated", "support_set", "overlap", "ramp_loss",
                            "auc_mean", "auc_ramp", "auc_tail", "small_margin_count", "coefficient_of_variation",
                            "relative_iqr"),
    "theory.norms": ("layer_norm", "layer_norms", "rho", "rho_factors", "log_rho", "normalised_params"),
    # which examples: scores, rules, masks
    "theory.scores": ("el2n", "grand", "network_grand", "Dynamics", "fresh_dynamics", "present", "forgetting", "aum",
                      "dual", "farthest_first"),
    "theory.deletion": ("term_norms", "kkt_weights"),
    "theory.selection": ("select", "Cut", "balanced_mask", "window_mask", "stratified_mask", "random_scores", "of_ids",
                         "kept_counts"),
    # what is said to predict the test error
    "theory.complexity": ("spectral_norm", "operator_norms", "network_norms", "log_path_norm",
                          "log_spectral_complexity"),
    "theory.measures": ("compute_measures", "margin_measures", "Trained", "Gammas", "MEASURES"),
    "theory.neural_collapse": ("neural_collapse", "Sample", "Classifier"),
    # statistics
    "statistics.ranking": ("spearman", "partial_spearman", "kendall", "sign_error"),
    "statistics.information": ("conditional_mutual_information",),
    "statistics.estimates": ("t_interval", "percentile_interval", "resample"),
    "statistics.proportions": ("wilson_interval", "share_evidence"),
    "statistics.bootstrap": ("hierarchical_bootstrap", "paired_bootstrap"),
    "statistics.hypotheses": ("Evidence", "holm", "t_evidence", "bootstrap_evidence"),
    "statistics.verdicts": ("Claim", "number_claim", "judge_family"),
    "statistics.audit": ("audit", "Design"),
    # networks, data, training
    "models.network": ("Network", "from_flax", "with_batch_norm"),
    "models.convnet": ("ConvNet", "Geometry"),
    "models.densenet": ("DenseNetBC",),
    "data.load": ("load_data",),
    "data.dataset": ("Dataset", "Split", "make_split"),
    "data.transforms": ("select_classes", "randomise_labels", "channel_statistics"),
    "training.state": ("Examples", "TrainState", "make_optimizer", "make_state"),
    "training.epoch": ("make_run_epoch", "compile_epoch", "make_plan"),
    "training.evaluate": ("make_evaluate",),
    "training.ensemble": ("make_ensemble", "make_states", "join"),
    "backend": ("prepare",),
    # jobs and the folders that they leave
    "experiments.job": ("make_examples",),
    "experiments.train": ("train",),
    "experiments.recorder": ("Recorder",),
    "experiments.compress": ("compress",),
    "experiments.sweep": ("sweep",),
    "experiments.stability": ("stability",),
    "run_folder.read": ("read_run", "read_margins", "read_metrics", "read_mask"),
}
_ROOM_OF = {name: room for room, names in _NAMES.items() for name in names}
__all__ = sorted(_ROOM_OF)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """Loads a public name at its first use."""
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'margin_jax' has no attribute {name!r}; its public names are in "
                             "margin_jax.__all__ and docs/library.md")
    value = getattr(importlib.import_module(f"margin_jax.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """All public names, loaded or not."""
    return sorted({*globals(), *__all__})
