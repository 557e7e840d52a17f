"""Registration of one pair, from its files to a ``Result``."""
