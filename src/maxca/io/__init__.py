"""Files in and out: images, transforms and points, each checked on the way."""
