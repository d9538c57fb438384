"""Errors that are the user's to mend: each message names the value, its place and the fix.

The command line prints the message of a `UserError` and exits with 2, without a traceback. Anything
else that is raised is a bug of r1kit, and keeps its traceback.
"""


class UserError(ValueError):
    """Something the user gave can't be used as it is."""


class RecipeError(UserError):
    """A recipe that can't be run: which file, line, field and value, and how to fix it."""


class DataError(UserError):
    """A data file that can't be read, or a record in it that can't be used: file and line."""


class ModelError(UserError):
    """A model or tokenizer that can't be loaded, or that can't do what the recipe asks of it."""


class StageHalted(UserError):
    """A stage stopped itself to protect what it had: what happened, and where the last good state is."""
