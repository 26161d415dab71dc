"""Arguments of Python in the advice of a message, as the command line spells them."""

import re

_OF_DATA = "target|task|drop|category|text|codes|group|weight|test|time_order|image_size|image_max"
_FIRST = re.compile(
    rf"({_OF_DATA})(?=:)|(n_settings|n_seeds|n_confirm_seeds|confirmed|margin|budget|batch_size|metric)(?= must)|"
    r"(data_dir)(?= )|(level)(?= is of)|(validation)(?= must)"
)
_OPTIONS = (
    ("name it as target;", "name it with --target;"),
    ("task regression", "--task regression"),
    ("task classification", "--task classification"),
    ("pass task='regression'", "give --task regression"),
    ("(image size)", "(--image-size)"),
    ("use group ", "use --group "),
    ("use text ", "use --text "),
    ("leave time_order out", "leave --time-order out"),
    ("use codes for", "use --codes for"),
    ("a network of your own that embeds", "a network of your own (dampen tune --model) that embeds"),
    ("leave codes out", "leave --codes out"),
    ("leave group out", "leave --group out"),
    ("leave time_order or group out", "leave --time-order or --group out"),
    ("use validation='held-out'", "use --validation held-out"),
    ("leave resume out", "leave --resume out"),
    ("choose coverage", "choose --coverage"),
)


def as_options(line: str) -> str:
    """Return a message with the options' own spelling in its advice, and where it begins with an argument.

    >>> as_options("n_confirm_seeds must be a whole number, 2 or larger, got 1")
    '--confirm-seeds must be a whole number, 2 or larger, got 1'
    """
    for words, option in _OPTIONS:
        line = line.replace(words, option)
    first = _FIRST.match(line)
    return line if first is None else f"--{first[0].removeprefix('n_').replace('_', '-')}{line[first.end() :]}"
