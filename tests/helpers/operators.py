"""A layer as the dense matrix that it applies."""

import numpy as np

from helpers import reference


def dense_matrix(kernel, shape, stride, zeros=None):
    """The matrix A of a zero-padded convolution, (outputs, inputs), column by column with loops in float64."""
    columns = [reference.conv_forward(pixel[None], np.asarray(kernel, np.float64), stride, zeros).ravel()
               for pixel in np.eye(int(np.prod(shape))).reshape(-1, *shape)]
    return np.stack(columns, 1)
