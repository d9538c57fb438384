"""Errors that a user can fix: each message names the value, its place and the fix.

The command line prints a `UserError`'s message and exits with 2, without a traceback. Any other exception is
a bug in r1kit and keeps its traceback.
"""


class UserError(ValueError):
    """User input that can't be used."""


class RecipeError(UserError):
    """A recipe that can't be run; names the file, line, field and value, and the fix."""


class DataError(UserError):
    """A data file that can't be read, or a record that can't be used; names the file and line."""


class ModelError(UserError):
    """A model or tokenizer that can't be loaded, or can't do what the recipe asks."""


class StageHalted(UserError):
    """A stage stopped itself to protect its state; says what happened and where the last good state is."""
