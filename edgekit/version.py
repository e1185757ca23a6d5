"""The version, in a place that every part may read."""

__version__ = "0.1.0"
