"""What users are told: mistakes, and what works only half."""


class InputError(ValueError):
    """A user's mistake, told in one line: what was given, what is allowed, what to do.

    The command line prints that line and exits with 2.
    """


class NotFused(UserWarning):
    """Members train one after the other, or samples are drawn one by one: the network can't be run for all at once."""
