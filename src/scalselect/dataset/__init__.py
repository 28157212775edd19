"""From bytes on disk to samples in pool order, and the chosen records back out."""
