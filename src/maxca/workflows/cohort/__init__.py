"""The registrations of a list of pairs: a plan on disk, and a graph of one task per pair on Dask."""
