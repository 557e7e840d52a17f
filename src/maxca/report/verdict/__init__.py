"""Verdict on a registration (aligned, check or failed) with its reasons."""
