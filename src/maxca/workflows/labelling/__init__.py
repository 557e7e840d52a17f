"""Multi-atlas labelling: registrations to labelled scans, and the fusion of their labels."""
