"""What the commands' options have in common, and how their text becomes values."""

import os
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from dampen._checks import expanded
from dampen._io import RUNS
from dampen.cli._outputs import keep_apart
from dampen.errors import InputError

DATA, SEARCH, TRAINING, OUTPUT = "Data", "Search", "Training", "Output"  # panels of --help


_NAMED = ("data", "against")  # arguments that are a path, or a set's name


def at_home(command: Callable[..., None]) -> Callable[..., None]:
    """Let `~` begin a command's paths where the shell leaves it: within quotes, and in --out=~/study."""

    @wraps(command)
    def run(*given: Any, **named: Any) -> None:
        command(*given, **{n: expanded(v) if n in _NAMED or isinstance(v, Path) else v for n, v in named.items()})

    return run


def option(help: str, default: str | None = None, *, panel: str, **more: Any) -> Any:
    """Return an option of a panel; `default` describes in a few words what depends on the data."""
    return typer.Option(help=help, show_default=default or True, rich_help_panel=panel, **more)


def flag(name: str, help: str, *, panel: str) -> Any:
    """Return an option without a value; its help shows no type."""
    return typer.Option(name, help=help, rich_help_panel=panel, metavar="")


in_data, in_search = partial(option, panel=DATA), partial(option, panel=SEARCH)
in_training, in_output = partial(option, panel=TRAINING), partial(option, panel=OUTPUT)


def studies(incomplete: str) -> list[str]:
    """Return the names of studies for the shell's completion; a name that is a path is left to the shell."""
    try:
        names = [entry.name for entry in RUNS.iterdir() if (entry / "plan.json").is_file()]
    except OSError:
        return []
    return sorted(name for name in names if name.startswith(incomplete))


Study = Annotated[
    str,
    typer.Argument(
        metavar="STUDY", help="Folder of a finished study, or its name in dampen-runs.", autocompletion=studies
    ),
]
Seed = Annotated[int, in_training("First seed; everything random depends on the seeds.")]
Seeds = Annotated[int, in_training("Number of seeds, counted up from --seed.", min=1)]
Device = Annotated[str, in_training("Where to train: cpu, cuda, cuda:1 ...")]
ClusterAddress = Annotated[
    str | None,
    in_training(
        "Train on a Ray cluster: local, auto or ray://HOST:PORT.", "this machine, without Ray", metavar="ADDRESS"
    ),
]
CpusPerWorker = Annotated[int, in_training("Cores of each worker of the cluster.", min=1)]
GpusPerWorker = Annotated[
    float | None, in_training("GPUs of each worker of the cluster; may be a part of one.", "1 with --device cuda")
]
Json = Annotated[bool, flag("--json", "Print one JSON document on stdout and nothing else there.", panel=OUTPUT)]
Model = Annotated[
    str | None,
    in_data("Factory for the study's network, as in tune, if it is your own.", metavar="MODULE:FUNCTION"),
]
DataDir = Annotated[Path | None, in_data("Folder to search for the data, before $DAMPEN_DATA and the cache.")]


def cluster(address: str | None, cpus: int, gpus: float | None) -> Any:
    """Return the cluster that the options describe, None without one."""
    if address is None:
        if cpus != 1 or gpus is not None:
            raise InputError("--cpus-per-worker and --gpus-per-worker are of a cluster's workers: give --cluster, too")
        return None
    from dampen.cluster import Cluster

    return Cluster(address, cpus, gpus)


def numbers(text: str, option: str) -> list[float]:
    """Read a list such as `0,3`."""
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise InputError(f"{option} takes numbers separated by commas, such as 0.3,0.5; got {text!r}") from None


def whole_numbers(text: str, option: str) -> list[int]:
    """Read a list such as `256,128`."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise InputError(f"{option} takes whole numbers separated by commas, such as 256,128; got {text!r}") from None


def positive_range(text: str, option: str) -> tuple[float, float]:
    """Read a range such as `0.01..100` on a logarithmic axis."""
    try:
        low, high = (float(word) for word in text.split(".."))
    except ValueError:
        raise InputError(f"{option} takes a range, such as 0.01..100; got {text!r}") from None
    if not 0 < low < high < float("inf"):
        raise InputError(f"{option} must run from a number above 0 to a larger finite one, got {text!r}")
    return low, high


def seed_range(seed: int, seeds: int) -> range:
    """Return the seeds that --seed and --seeds mean."""
    if seed < 0 or seed + seeds > 2**63:
        raise InputError(f"--seed must be a whole number from 0 to 2^63 - 1, got {seed}")
    return range(seed, seed + seeds)


def usable_device(name: str) -> str:
    """Return the device if this machine has it."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError, ValueError):
        raise InputError(f"--device {name}: torch has no such device on this machine; cpu always works") from None
    return name


def picture(chosen: Path | None, default: str, *sources: str | os.PathLike[str] | None) -> Path:
    """Return where the picture goes, once it is certain that it can be written there, apart from the data's sources."""
    from dampen.report import check_picture

    file = chosen or Path(default)
    keep_apart(file, "--plot", *sources)
    return check_picture(file)
