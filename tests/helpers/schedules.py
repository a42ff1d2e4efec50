"""Removal schedules."""


def fig04_schedule(total):
    """Kept counts of the paper's continuous removal, scaled to `total`."""
    counts, kept = [total], total
    for until, step in ((total // 5, total // 10), (total // 50, total // 50), (total // 500, total // 500), (10, 10),
                        (1, 1)):
        while kept > max(until, 1) and step:
            kept = max(kept - step, 1)
            counts.append(kept)
    return counts
