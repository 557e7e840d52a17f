"""What aligns two prepared volumes: an affine search and an instance optimisation."""
