"""Networks as users write them, which configs name as helpers.own_networks:function."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from margin_jax.models.convnet import ConvNet


class Perceptron(nn.Module):
    """Two dense layers; BatchNorm between them where it is asked for."""

    num_classes: int
    normalised: bool = False
    dropped: float = 0.0
    sows: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, weights: jax.Array) -> jax.Array:
        x = nn.Dense(8, use_bias=False, name="hidden")(x.reshape(x.shape[0], -1))
        if self.normalised:
            x = nn.BatchNorm(use_running_average=not train, name="between")(x, mask=(weights > 0)[:, None])
        if self.dropped:
            x = nn.Dropout(self.dropped, deterministic=not train)(x)
        x = nn.relu(x)
        if self.sows:
            self.sow("intermediates", "features", x)
        return nn.Dense(self.num_classes, use_bias=False, name="dense")(x)


class Broken(nn.Module):
    """Gives what `output` makes of logits."""

    num_classes: int
    output: str

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, weights: jax.Array) -> object:
        if self.output == "flat":
            return nn.Conv(3, (2, 2))(x.reshape(x.shape[0], -1))
        logits = nn.Dense(self.num_classes)(x.reshape(x.shape[0], -1))
        return {"pair": (logits, 0), "classes": jnp.argmax(logits, axis=1), "few": logits[:, :-1]}[self.output]


def perceptron(num_classes):
    return Perceptron(num_classes)


def sowing(num_classes):
    return Perceptron(num_classes, sows=True)


def normalised(num_classes):
    return Perceptron(num_classes, normalised=True)


def dropping(num_classes):
    return Perceptron(num_classes, dropped=0.5)


def convnet(num_classes, rows_axis=None):
    return ConvNet(num_classes, (4,), batch_norm=True, rows_axis=rows_axis)


def pair(num_classes):
    return Broken(num_classes, "pair")


def classes(num_classes):
    return Broken(num_classes, "classes")


def few(num_classes):
    return Broken(num_classes, "few")


def flat(num_classes):
    return Broken(num_classes, "flat")


def number(num_classes):
    return num_classes


def plain_call(num_classes):
    return nn.Dense(num_classes)
