"""Templates: the mean intensity and the mean shape of scans, by repeated registration."""
