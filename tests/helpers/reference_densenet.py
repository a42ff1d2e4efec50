"""DenseNet-BC forward in NumPy float64, from parameters and running statistics by name: the independent truth."""

import numpy as np

from helpers.reference import conv_forward

EPSILON = 1e-5


def normalise(x, params, stats, new_stats, train):
    """BatchNorm over all rows given, and the running statistics that follow it."""
    mean, var = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if train else (stats["mean"], stats["var"])
    if train:
        new_stats |= {"mean": 0.9 * stats["mean"] + 0.1 * mean,
                      "var": 0.9 * stats["var"] + 0.1 * x.var((0, 1, 2), ddof=1)}
    return (x - mean) / np.sqrt(var + EPSILON) * params["scale"] + params["bias"]


def pool(x):
    """Means over windows 2x2 of stride 2, cut off at the edge."""
    rows, columns = range(0, x.shape[1], 2), range(0, x.shape[2], 2)
    return np.stack([np.stack([x[:, i:i + 2, j:j + 2].mean((1, 2)) for j in columns], 1) for i in rows], 1)


def forward(params, stats, x, train, blocks):
    """Logits (B, classes) of images (B, H, W, C), and new running statistics."""
    new_stats = {name: {} for name in stats}

    def composite(name, x):
        new_stats[name]["norm"] = {}
        normed = normalise(x, params[name]["norm"], stats[name]["norm"], new_stats[name]["norm"], train)
        return conv_forward(np.maximum(normed, 0), params[name]["conv"]["kernel"], 1)

    x = conv_forward(x, params["stem_conv"]["kernel"], 1)
    for block, layers in enumerate(blocks):
        if block:
            x = pool(composite(f"transition_{block - 1}", x))
        for layer in range(layers):
            inner = composite(f"block_{block}_layer_{layer}_bottleneck", x)
            x = np.concatenate([x, composite(f"block_{block}_layer_{layer}_growth", inner)], 3)
    x = np.maximum(normalise(x, params["norm"], stats["norm"], new_stats["norm"], train), 0).mean((1, 2))
    return x @ params["dense"]["kernel"] + params["dense"]["bias"], new_stats


def loss(logits, labels):
    """Mean cross-entropy in nats."""
    shifted = logits - logits.max(1, keepdims=True)
    return (np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]).mean()
