"""The version of this distribution. No other place states it: the build and running clusters read it here."""

__all__ = ["__version__"]

__version__ = "0.1.0"
