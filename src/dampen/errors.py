"""Exceptions and warnings that users see."""


class InputError(ValueError):
    """A user's mistake, in one line: what was given, what is allowed, what to do.

    The command line prints that line and exits with 2.
    """

    def __init__(self, line: str):
        super().__init__(" ".join(line.splitlines()))  # names of files and columns may hold line breaks


class NotFusedWarning(UserWarning):
    """Members train one after the other, or samples are drawn one by one: the network can't be run for all at once."""


class NotSampled(UserWarning):
    """Something random in a network is left out of its samples, or nothing in it is random."""


class OutputsWarning(UserWarning):
    """A network's outputs are probably misinterpreted; the message has the interpretation, and what to do."""


class NotExported(UserWarning):
    """A part of an export that can't be written; the message has the part and the reason."""


class NoFont(UserWarning):
    """Pictures are in English, because no font of the machine has the characters of the reader's language."""


class DataWarning(UserWarning):
    """Something odd about rows, and what was made of it."""
