"""Data sets: every source becomes one `Dataset` of two `Split(images, labels, ids, true_labels)`; NumPy alone."""
