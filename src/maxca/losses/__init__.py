"""Similarity measures, regularity penalties and overlap: terms of the optimisation and of training losses."""
