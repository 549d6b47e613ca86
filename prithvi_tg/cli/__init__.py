"""The command line of the Lightning commands: fit, validate, test and predict."""

from ..deprecated import old_names

__getattr__ = old_names(__name__)
