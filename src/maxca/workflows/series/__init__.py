"""Series: motion of the frames of a 4-D image."""
