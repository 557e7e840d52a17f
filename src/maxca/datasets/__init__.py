"""From images to what an algorithm takes: normalised, cropped, on a common grid."""
