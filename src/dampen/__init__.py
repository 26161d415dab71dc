"""How much weight decay and dropout a network needs, whether they help, and when to trust a prediction."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dampen._hooks import CLUSTERS, WRITERS
from dampen._threads import sleep_when_idle

if TYPE_CHECKING:
    from dampen.cluster import Cluster
    from dampen.data import Data, from_arrays, load
    from dampen.doctor import diagnose
    from dampen.engine import (
        SGD,
        Adam,
        AdamW,
        ChunkDone,
        Epoch,
        History,
        Knob,
        Population,
        Schedule,
        TrainConfig,
        insert_dropout,
        register_knob,
        solo,
    )
    from dampen.engine.knobs import Setting
    from dampen.errors import DataWarning, InputError, NotFusedWarning, NotSampled, OutputsWarning
    from dampen.estimators import DampenClassifier, DampenRegressor
    from dampen.integrations import objective
    from dampen.models import linear, mlp, tabular
    from dampen.play import play
    from dampen.search import (
        TPE,
        Choice,
        Fixed,
        Grid,
        Hyperband,
        LogUniform,
        PerLayer,
        Random,
        Sobol,
        SuccessiveHalving,
        Uniform,
    )
    from dampen.study import Study, compare, load_study, tune
    from dampen.uncertainty import mc_dropout, predict

sleep_when_idle()  # before anything loads torch

# A name is imported at its first use: torch takes seconds, and `dampen --help` needs none of it.
_HOME = {
    "Adam": "engine",
    "AdamW": "engine",
    "Choice": "search",
    "ChunkDone": "engine",
    "Cluster": "cluster",
    "DampenClassifier": "estimators",
    "DampenRegressor": "estimators",
    "Data": "data",
    "DataWarning": "errors",
    "Epoch": "engine",
    "Fixed": "search",
    "Grid": "search",
    "History": "engine",
    "Hyperband": "search",
    "InputError": "errors",
    "Knob": "engine",
    "LogUniform": "search",
    "NotFusedWarning": "errors",
    "NotSampled": "errors",
    "OutputsWarning": "errors",
    "PerLayer": "search",
    "Population": "engine",
    "Random": "search",
    "SGD": "engine",
    "Schedule": "engine",
    "Setting": "engine",
    "Sobol": "search",
    "Study": "study",
    "TrainConfig": "engine",
    "SuccessiveHalving": "search",
    "TPE": "search",
    "Uniform": "search",
    "compare": "study",
    "diagnose": "doctor",
    "from_arrays": "data",
    "insert_dropout": "engine",
    "linear": "models",
    "load": "data",
    "load_study": "study",
    "mc_dropout": "uncertainty",
    "mlp": "models",
    "objective": "integrations",
    "play": "play",
    "predict": "uncertainty",
    "register_knob": "engine",
    "solo": "engine",
    "tabular": "models",
    "tune": "study",
}

# So are rooms, of which `import dampen` alone should do: dampen.study.kept, dampen.uncertainty.SetRule.
_ROOMS = frozenset(
    {
        *("cluster", "data", "doctor", "engine", "errors", "estimators", "experiments", "export", "integrations"),
        *("metrics", "models", "report", "search", "statistics", "study", "uncertainty"),
    }
)

__all__ = [
    "SGD",
    "TPE",
    "Adam",
    "AdamW",
    "Choice",
    "ChunkDone",
    "Cluster",
    "DampenClassifier",
    "DampenRegressor",
    "Data",
    "DataWarning",
    "Epoch",
    "Fixed",
    "Grid",
    "History",
    "Hyperband",
    "InputError",
    "Knob",
    "LogUniform",
    "NotFusedWarning",
    "NotSampled",
    "OutputsWarning",
    "PerLayer",
    "Population",
    "Random",
    "Schedule",
    "Setting",
    "Sobol",
    "Study",
    "SuccessiveHalving",
    "TrainConfig",
    "Uniform",
    "compare",
    "diagnose",
    "from_arrays",
    "insert_dropout",
    "linear",
    "load",
    "load_study",
    "mc_dropout",
    "mlp",
    "objective",
    "play",
    "predict",
    "register_knob",
    "solo",
    "tabular",
    "tune",
]


def _write_report(*arguments: Any) -> None:
    from dampen.report import write_study

    write_study(*arguments)


def _write_export(*arguments: Any, **options: Any) -> Any:
    from dampen.export import write

    return write(*arguments, **options)


def _to_figure(*arguments: Any) -> Any:
    from dampen.report import study_figure

    return study_figure(*arguments)


def _to_html(document: dict[str, Any]) -> str:
    from dampen.report import study_html

    return study_html(document)


def _connected(cluster: Any) -> Any:
    from dampen.cluster import Cluster

    return Cluster.of(cluster).connected()


CLUSTERS["connected"] = _connected
WRITERS |= {"report": _write_report, "export": _write_export, "html": _to_html, "figure": _to_figure}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("dampen")
    if name in _ROOMS:
        return import_module(f"dampen.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'dampen' has no attribute {name!r}")
    return getattr(import_module(f"dampen.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
