"""scalselect: choose, without training, the visual-instruction data worth fine-tuning on."""

__version__ = "0.1.0"
