"""`train.py`: a study's last training again, in plain PyTorch, along the same trajectory."""

from string import Template

import torch

from dampen._io import shortened
from dampen.engine.knobs.weights.weight_decay import decayed
from dampen.errors import InputError
from dampen.export import _layers
from dampen.export._literal import literal
from dampen.models import Scaling
from dampen.study import Winner

KNOBS = ("weight_decay", "dropout", "lr")
_COMPARED = 64  # rows on which the script's network must equal the study's


def check(winner: Winner) -> None:
    """Make sure that the script can follow a training.

    Raises:
        InputError: it can't; the message names what is in the way.
    """
    if winner.data is None:
        raise InputError(str(winner.lacking))
    training = winner.training
    others = [name for name in winner.setting if name not in KNOBS]
    if others:
        raise InputError(f"the setting turns {', '.join(others)}, and the script supports {', '.join(KNOBS)} only")
    if training["device"].partition(":")[0] != "cpu":
        raise InputError(f"the training ran on {training['device']}, whose random numbers are not the CPU's")
    if training["precision"] not in ("float32", "float64"):
        raise InputError(f"the training's precision is {training['precision']}, whose rounding no other loop repeats")
    if training["optimizer"] != "adamw":
        raise InputError(f"the optimizer is {training['optimizer']}, and the script supports adamw only")
    if training["schedule"] not in _FACTORS:
        raise InputError(
            f"the learning rate's schedule is {training['schedule']}, and the script supports "
            f"{', '.join(_FACTORS)} only"
        )
    if not winner.repeatable:
        raise InputError("the network's initial weights do not follow from torch's seed")
    _layers.check_plain(winner.network, winner.examples[:_COMPARED])


def drawn_by_seed(winner: Winner) -> bool:
    """Return whether the network that the script makes starts from the winner's initial weights by its seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(winner.seed)
        drawn = _layers.remade(winner.network).state_dict()
    return all(torch.equal(t, drawn[name]) for name, t in winner.initial.state_dict().items())


def source(winner: Winner) -> str:
    """Return the script for a winner that `check` has let pass."""
    classes = winner.description.task == "classification"
    weighted = winner.description.weighted
    drops, scales = (
        any(isinstance(module, kinds) for module in winner.network.modules()) for kinds in (_layers.DROPOUT, Scaling)
    )
    factor = _FACTORS[winner.training["schedule"]]
    made = _layers.code(winner.network)
    mean, deviation = winner.target_scale
    names = [name for name, on in decayed(winner.network).items() if on]
    parts = {
        "data": f"Recommended for: {_in_quotes(winner.description.name)}.",
        "math": "import math\n" if "math." in factor else "",
        "ordered": "from collections import OrderedDict\n" if "OrderedDict" in made else "",
        "seed": literal(winner.seed, int),
        "epochs": literal(winner.epochs, int),
        "batch_size": literal(winner.training["batch_size"], int),
        "cut": _EVEN if winner.training["even_batches"] else _FULL,
        "lr": literal(winner.setting.get("lr", winner.training["lr"]), float),
        "weight_decay": literal(winner.setting.get("weight_decay", 0.0), float),
        "decayed": _listed(names),
        "precision": winner.training["precision"],
        "scale": ""
        if classes
        else f"TARGET_MEAN, TARGET_DEVIATION = {literal(mean, float)}, {literal(deviation, float)}  # here 0, 1\n",
        "dropout": _DROPOUT if drops else "",
        "scaling": Template(_SCALING).substitute(factor=Scaling.FACTOR) if scales else "",
        "made": made,
        "schedule": Template(_SCHEDULE).substitute(factor=factor) if factor else "",
        "scheduled": "            scheduler.step()\n" if factor else "",
        "start": "" if drawn_by_seed(winner) else _START,
        "noise": "            Dropout.noise = noise(step)\n" if drops else "",
        "targets": "targets" if classes else "targets.to(DTYPE)",
        "scaled": _SCALED if winner.description.preprocessing is None else "",
        "and_weights": ", weights" if weighted else "",
        "weights": ', torch.from_numpy(data[split + "_weights"]).to(DTYPE)' if weighted else "",
        "loss": (_CLASS_LOSS if classes else _NUMBER_LOSS)[weighted],
        "metrics": (_CLASS_METRICS if classes else _NUMBER_METRICS)[weighted],
    }
    return Template(_SCRIPT).substitute(parts)


def _in_quotes(name: str) -> str:
    """Return a name, often that of a file, as it may stand in a docstring."""
    return "".join(c if c.isprintable() and c not in '"\\' else " " for c in shortened(name))


def _listed(names: list[str]) -> str:
    texts = [literal(name, str) for name in names]
    line = "[" + ", ".join(texts) + "]"
    return line if len(line) < 100 else "[\n" + "".join(f"    {text},\n" for text in texts) + "]"


_SCRIPT = '''\
"""Trains the network that dampen recommended, in plain PyTorch: torch, numpy and safetensors are needed.

$data
The data is data.npz beside this file, or a file with the same arrays: python train.py OTHER.npz. The trained weights
go to trained.safetensors. Initial weights, batches and dropout masks are those of the training that is repeated, so
that the weights come out the same, up to rounding. In float32 rounding can push a unit over ReLU's kink; from there on
the weights differ, and the metrics as they do between seeds.
"""

import hashlib
${math}import struct
import sys
${ordered}from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

SEED = $seed
EPOCHS = $epochs
BATCH_SIZE = $batch_size  # rows at most
LR = $lr
WEIGHT_DECAY = $weight_decay  # decoupled: AdamW
DECAYED = $decayed
DTYPE = torch.$precision
${scale}HERE = Path(__file__).resolve().parent
${scaling}${dropout}

def make():
    return $made


def rows(data, split):
    inputs = torch.from_numpy(data[split + "_features"]).to(torch.float32)
$scaled    targets = torch.from_numpy(data[split + "_targets"])
    return inputs.to(DTYPE), $targets$weights


def batches(n, epoch):
    digest = hashlib.blake2b(struct.pack("<3q", SEED, epoch, 0), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
    return torch.randperm(n, generator=generator).$cut


def train(inputs, targets$and_weights):
    torch.manual_seed(SEED)
    network = make()
${start}    network.to(DTYPE).train()
    decayed = [p for name, p in network.named_parameters() if name in DECAYED]
    others = [p for name, p in network.named_parameters() if name not in DECAYED]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR)
${schedule}    step = 0
    for epoch in range(1, EPOCHS + 1):
        for batch in batches(len(targets), epoch):
${noise}            outputs = network(inputs[batch])
            loss = $loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
${scheduled}            step += 1
    return network.eval()


@torch.no_grad()
def metrics(network, inputs, targets$and_weights):
    outputs = network(inputs)
$metrics

def report(name, network, data):
    inputs, targets$and_weights = rows(data, "test")
    found = metrics(network, inputs, targets$and_weights) if len(targets) else {}
    said = ", ".join(f"{metric} {value:.6g}" for metric, value in found.items())
    print(f"{name}: {said or 'no test rows'}")


def main():
    data = np.load(sys.argv[1] if len(sys.argv) > 1 else HERE / "data.npz")
    network = train(*rows(data, "train"))
    save_file(network.state_dict(), HERE / "trained.safetensors")
    report("trained.safetensors", network, data)
    if (HERE / "model.safetensors").is_file():
        theirs = make().to(DTYPE).eval()
        theirs.load_state_dict(load_file(HERE / "model.safetensors"))
        report("model.safetensors", theirs, data)
        mine, wanted = (nn.utils.parameters_to_vector(n.parameters()).detach().double() for n in (network, theirs))
        print(f"apart by {float((mine - wanted).norm() / wanted.norm()):.1e} of the weights' norm")


if __name__ == "__main__":
    main()
'''

_START = '    network.load_state_dict(load_file(HERE / "initial.safetensors"))\n'

_DROPOUT = '''

def noise(step):
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence((SEED, step, 1))))


class Dropout(nn.Module):
    """Drops a unit where its uniform number is below p; a step's layers draw from one generator, in order."""

    noise = None

    def __init__(self, p, whole_channels=False):
        super().__init__()
        self.p, self.whole_channels = p, whole_channels

    def forward(self, h):
        if not self.training:
            return h
        shape = (*h.shape[:2], *[1] * (h.ndim - 2)) if self.whole_channels else h.shape
        kept = torch.from_numpy(Dropout.noise.random(shape, dtype=np.float32)) >= torch.tensor(self.p)
        return h * (kept.to(h.dtype) * (1 / (1 - self.p) if self.p < 1 else 1.0))
'''

_SCALING = '''

class Scaling(nn.Module):
    """Multiplies each input by a factor that is learned."""

    def __init__(self, inputs):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inputs))

    def forward(self, x):
        return x * (1 + $factor * self.weight)
'''

# How an epoch's rows are cut into batches of at most BATCH_SIZE: in equal parts, or full ones and then the rest.
_EVEN, _FULL = "tensor_split(-(-n // BATCH_SIZE))", "split(BATCH_SIZE)"

# The share of the learning rate at a step, by schedule.
_FACTORS = {"constant": "", "cosine": "(1 + math.cos(math.pi * step / steps)) / 2", "linear": "1 - step / steps"}
_SCHEDULE = """\
    steps = EPOCHS * -(-len(targets) // BATCH_SIZE)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: $factor)
"""

_SCALED = '    inputs = (inputs - torch.from_numpy(data["mean"])) / torch.from_numpy(data["std"])\n'

# Each without and with weights of the rows, which have mean 1.
_CLASS_LOSS = (
    "F.cross_entropy(outputs, targets[batch])",
    '(F.cross_entropy(outputs, targets[batch], reduction="none") * weights[batch]).mean()',
)
_NUMBER_LOSS = (
    "F.mse_loss(outputs.reshape_as(targets[batch]), targets[batch])",
    "((outputs.reshape_as(targets[batch]) - targets[batch]).square() * weights[batch]).mean()",
)
_CLASS_METRICS = (
    """\
    right = (outputs.argmax(1) == targets).double()
    return {"accuracy": float(right.mean()), "nll": float(F.cross_entropy(outputs.double(), targets))}
""",
    """\
    right = (outputs.argmax(1) == targets).double() * weights
    nll = F.cross_entropy(outputs.double(), targets, reduction="none") * weights
    return {"accuracy": float(right.mean()), "nll": float(nll.mean())}
""",
)
_NUMBER_METRICS = (
    """\
    errors = (outputs.reshape_as(targets) - targets).double() * TARGET_DEVIATION
    mse, variance = errors.square().mean(), (targets.double() * TARGET_DEVIATION).var(correction=0)
    return {"rmse": float(mse.sqrt()), "mae": float(errors.abs().mean()), "r2": float(1 - mse / variance)}
""",
    """\
    errors = (outputs.reshape_as(targets) - targets).double() * TARGET_DEVIATION
    return {"rmse": float((errors.square() * weights).mean().sqrt()), "mae": float((errors.abs() * weights).mean())}
""",
)
