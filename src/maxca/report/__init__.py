"""A page to look at: whether a registration worked, and how it looks."""
