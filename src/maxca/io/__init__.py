"""Reading and writing of images, transforms and points, with validation."""
