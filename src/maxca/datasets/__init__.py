"""Data sets: readers of data as downloaded, preparation for training, splits."""
