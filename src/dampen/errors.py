"""What users are told: mistakes, and what works only half."""


class InputError(ValueError):
    """A user's mistake, told in one line: what was given, what is allowed, what to do.

    The command line prints that line and exits with 2.
    """


class NotFused(UserWarning):
    """The members of a population train one after the other: their network can't be run for all of them at once."""
