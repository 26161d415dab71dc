"""The one error that means: the caller gave something that can't be used."""


class InputError(ValueError):
    """A user's mistake, told in one line: what was given, what is allowed, what to do.

    The command line prints the line and exits with 2; anything else that escapes is a bug.
    """
