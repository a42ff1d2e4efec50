"""ConvNet, cross-entropy and SGD with momentum in NumPy float64, written with loops: the independent truth."""

import numpy as np


def conv_forward(x, kernel, stride=2, zeros=None):
    """`zeros` around the image on every side; (size - 1)/2 if absent."""
    size = len(kernel)
    zeros = (size - 1) // 2 if zeros is None else zeros
    padded = np.pad(x, ((0, 0), (zeros, zeros), (zeros, zeros), (0, 0)))
    rows, columns = (range(0, side - size + 1, stride) for side in padded.shape[1:3])
    out = np.zeros((len(x), len(rows), len(columns), kernel.shape[-1]))
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            out[:, i, j] = np.tensordot(padded[:, top:top + size, left:left + size], kernel, 3)
    return out


def conv_backward(x, kernel, gradient, stride=2, zeros=None):
    size = len(kernel)
    zeros = (size - 1) // 2 if zeros is None else zeros
    padded = np.pad(x, ((0, 0), (zeros, zeros), (zeros, zeros), (0, 0)))
    d_padded, d_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    for i in range(gradient.shape[1]):
        for j in range(gradient.shape[2]):
            down, across = slice(stride * i, stride * i + size), slice(stride * j, stride * j + size)
            d_kernel += np.tensordot(padded[:, down, across], gradient[:, i, j], (0, 0))
            d_padded[:, down, across] += np.tensordot(gradient[:, i, j], kernel, (1, 3))
    return d_padded[:, zeros:zeros + x.shape[1], zeros:zeros + x.shape[2]], d_kernel


def max_pool(x):
    """2x2 of stride 2, an odd last row or column left out."""
    out = np.zeros((len(x), x.shape[1] // 2, x.shape[2] // 2, x.shape[3]))
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            out[:, i, j] = x[:, 2 * i:2 * i + 2, 2 * j:2 * j + 2].max((1, 2))
    return out


def forward(params, x):
    """Logits and the input of every layer."""
    inputs = []
    for layer in sorted(k for k in params if k.startswith("conv")):
        inputs.append(x)
        x = np.maximum(conv_forward(x, params[layer]["kernel"]), 0)
    inputs.append(x.reshape(len(x), -1))
    return inputs[-1] @ params["dense"]["kernel"], inputs


def loss_and_gradient(params, x, labels):
    """Mean cross-entropy in nats and its gradient."""
    logits, inputs = forward(params, x)
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    rows = np.arange(len(x))
    delta = np.exp(log_p)
    delta[rows, labels] -= 1
    delta /= len(x)
    gradient = {"dense": {"kernel": inputs[-1].T @ delta}}
    delta = delta @ params["dense"]["kernel"].T
    layers = sorted(k for k in params if k.startswith("conv"))
    for index in range(len(layers) - 1, -1, -1):
        name = layers[index]
        out = conv_forward(inputs[index], params[name]["kernel"])
        delta = delta.reshape(out.shape) * (out > 0)
        delta, d_kernel = conv_backward(inputs[index], params[name]["kernel"], delta)
        gradient[name] = {"kernel": d_kernel}
    return -log_p[rows, labels].mean(), gradient


def train(params, x, labels, batch, steps, learning_rate, momentum, weight_decay):
    """Runs SGD in the order of rows, last batch partial; returns parameters and the loss of every step."""
    velocity = {k: {"kernel": np.zeros_like(v["kernel"])} for k, v in params.items()}
    losses, starts = [], []
    while len(starts) < steps:
        starts += range(0, len(x), batch)
    for start in starts[:steps]:
        loss, gradient = loss_and_gradient(params, x[start:start + batch], labels[start:start + batch])
        losses.append(loss)
        for k in params:
            decayed = gradient[k]["kernel"] + weight_decay * params[k]["kernel"]
            velocity[k]["kernel"] = momentum * velocity[k]["kernel"] + decayed
            params[k] = {"kernel": params[k]["kernel"] - learning_rate * velocity[k]["kernel"]}
    return params, losses
