"""From scores to chosen row positions."""
