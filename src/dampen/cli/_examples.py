"""The examples that `--help` ends with."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": (
        "dampen tune digits --budget 1m",
        "dampen tune houses.csv --target price",
        "dampen runs",
        "dampen tune --help",
    ),
    "tune": (
        "dampen tune houses.csv --target price --budget 5m",
        "dampen tune digits --weight-decay 1e-5..1 --dropout 0..0.7",
        "dampen tune houses.csv --target price --model nets.py:make --insert-dropout",
        "dampen tune houses.csv --target price --resume",
    ),
    "report": ("dampen report dampen-runs/digits-1",),
    "predict": (
        "dampen predict dampen-runs/houses-1 new.csv --out predictions.csv",
        "dampen predict dampen-runs/digits-1 digits --samples 100 --coverage 0.95",
    ),
    "trust": ("dampen trust dampen-runs/digits-1 digits",),
    "export": ("dampen export dampen-runs/digits-1", "dampen export dampen-runs/digits-1 --out network --onnx"),
    "runs": ("dampen runs", "dampen runs show digits-1", "dampen runs compare digits-1 digits-2"),
    "runs list": ("dampen runs list", "dampen runs list studies --json"),
    "runs show": ("dampen runs show digits-1", "dampen runs show dampen-runs/digits-1 --json"),
    "runs compare": ("dampen runs compare digits-1 digits-2",),
    "runs remove": ("dampen runs remove digits-1", "dampen runs remove digits-1 digits-2 --yes"),
    "doctor": ("dampen doctor train.py:build", "dampen doctor nets:build --json"),
    "knobs": ("dampen knobs", "dampen knobs --json"),
    "play": ("dampen play", "dampen play moons", "dampen play houses.csv --target price"),
    "explore": ("dampen explore decoupled-decay digits", "dampen explore --help"),
    "weight-decay": ("dampen weight-decay", "dampen weight-decay --weight-decay 0,3,30 --path 20"),
    "dropout": ("dampen dropout", "dampen dropout digits --rates 0.3,0.5 --seeds 3"),
}
"""By command; each a line that runs as it stands where its files are there."""


def epilog(command: str) -> str:
    """Return a command's examples as help shows them, one a line."""
    lines = ("Examples:", *(f"  {line}" for line in EXAMPLES[command]))
    return "\n\n".join(lines).replace("[", r"\[")
