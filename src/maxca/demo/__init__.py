"""The demo: a pair with a known deformation, registered and measured."""
