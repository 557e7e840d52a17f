"""The motion of an organ: a deformation for each frame of a series."""
