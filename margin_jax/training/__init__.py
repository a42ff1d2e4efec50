"""Training driven by a boolean mask over the data set: state, jitted epoch, evaluation, many networks at once."""
