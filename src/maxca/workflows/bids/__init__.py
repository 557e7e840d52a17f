"""``maxca bids``: a BIDS App on the engine of cohorts, from a BIDS dataset to derivatives."""
