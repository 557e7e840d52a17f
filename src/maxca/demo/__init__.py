"""The demo: registration of a pair with a known deformation."""
