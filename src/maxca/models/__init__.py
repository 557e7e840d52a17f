"""Models: a network with its weights, and what it expects."""
