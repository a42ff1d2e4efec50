"""Data sets: one `Split(images, labels, ids, true_labels)` for every source."""
