"""scant: three-dimensional structure and dynamics from scant dose."""

__version__ = "0.1.0"
