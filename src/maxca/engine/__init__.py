"""Affine registration and instance optimisation of two prepared volumes."""
