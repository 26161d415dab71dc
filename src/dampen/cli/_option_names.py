"""Arguments of Python in the advice of a message, as the command line spells them."""

_OPTIONS = (
    ("name it as target;", "name it with --target;"),
    ("task regression", "--task regression"),
    ("task classification", "--task classification"),
    ("pass task='regression'", "give --task regression"),
    ("(image size)", "(--image-size)"),
    ("use group ", "use --group "),
    ("leave time_order out", "leave --time-order out"),
    ("leave group out", "leave --group out"),
    ("leave time_order or group out", "leave --time-order or --group out"),
    ("use validation='held-out'", "use --validation held-out"),
    ("image_size:", "--image-size:"),
    ("image_max:", "--image-max:"),
)


def as_options(line: str) -> str:
    """Return a message with the options' own spelling in its advice."""
    for words, option in _OPTIONS:
        line = line.replace(words, option)
    return line
