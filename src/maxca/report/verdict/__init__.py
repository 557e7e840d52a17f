"""Whether a registration worked, and why one may say so: aligned, check or failed."""
