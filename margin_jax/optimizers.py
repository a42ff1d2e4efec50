"""Optimisers from optax whose learning rate is data, not code: changing it compiles nothing."""

import jax
import optax

OPTIMIZERS = ("sgd", "adam")


def _sgd(learning_rate: jax.Array, weight_decay: jax.Array, momentum: float) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, momentum or None))


def _adam(learning_rate: jax.Array, weight_decay: jax.Array) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.adam(learning_rate))


def make_optimizer(name: str, learning_rate: float, momentum: float = 0.9,
                   weight_decay: float = 0.0) -> optax.GradientTransformation:
    """SGD with momentum, or Adam, with L2 regularisation.

    Weight decay is added to the gradient of every parameter before momentum, as PyTorch's SGD and Adam do: it is the
    gradient of weight_decay / 2 * ||W||^2, not decoupled decay.

    Args:
      name: "sgd", v <- momentum v + g, w <- w - learning_rate v; "adam" with beta 0.9, 0.999 and epsilon 1e-8.
      learning_rate: constant; kept in the optimiser's state under `hyperparams`.
      momentum: in [0, 1), used by "sgd" alone.
      weight_decay: >= 0; kept in the optimiser's state too.

    Returns:
      A gradient transformation.

    Raises:
      ValueError: unknown name.
    """
    if name == "sgd":
        return optax.inject_hyperparams(_sgd, static_args=("momentum",))(
            learning_rate=learning_rate, weight_decay=weight_decay, momentum=momentum)
    if name == "adam":
        return optax.inject_hyperparams(_adam)(learning_rate=learning_rate, weight_decay=weight_decay)
    raise ValueError(f"expected an optimiser of {OPTIMIZERS}, got {name!r}")
