"""Reports: a page with the verdict on a registration and its images."""
