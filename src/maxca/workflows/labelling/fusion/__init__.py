"""Fusion of the labels of registered atlases: majority vote, local weighting, joint label fusion."""
