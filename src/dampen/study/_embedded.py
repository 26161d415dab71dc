"""Whole numbers that a network embeds: they stay whole, and what an embedding can't take is refused in words."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dampen.data import Data
from dampen.engine import CHANGES_INPUTS, Builder, Model, check_codes
from dampen.engine import refuse_changed_codes as refuse_changed_columns
from dampen.errors import InputError
from dampen.study._given import check_data

_EMBEDDINGS = nn.Embedding | nn.EmbeddingBag
_ROWS = 64  # enough for one to be outside of what an embedding takes
_SCALED = 2.9  # nearly as far as a table's inputs reach


def with_ids(model: Model, data: Data) -> Data:
    """Return the data of an array with its whole numbers unscaled, and a note, where the network embeds all of them.

    Raises:
        InputError: it is no data set.
    """
    check_data(data)
    whole = data.whole()
    if whole is None:
        return data
    network = Builder(model)(0, whole.inputs, whole.outputs).eval()
    embedded: list[Tensor] = []
    for module in network.modules():
        if isinstance(module, _EMBEDDINGS):
            module.register_forward_pre_hook(lambda _, inputs: embedded.extend(inputs[:1]))
    rows = whole.features[whole.train_rows[:2]]
    try:
        with torch.no_grad():
            network(rows)
    except Exception:  # if in the embedding, the check has the better message
        pass
    if not any(ids.numel() == rows.numel() and ids.reshape_as(rows).equal(rows) for ids in embedded):
        return data
    note = f"the {whole.n_inputs} columns hold whole numbers that the network embeds: they stay as they are, unscaled"
    return replace(whole, notes=(*whole.notes, note))


def refuse_scaled_ids(network: nn.Module, data: Data) -> None:
    """Refuse scaled inputs for a network that embeds them, and codes for one that doesn't.

    Raises:
        InputError: an embedding of the network can't take them, or codes of a table are read as numbers.
    """
    if data.codes:
        check_codes(network, data.train.features, data.codes)
    if data.features.dtype == torch.int64 or not any(isinstance(module, _EMBEDDINGS) for module in network.modules()):
        return
    failed = _failed(network, _scaled(data))
    if failed is not None:
        name, size = failed
        if data.columns is not None:
            raise InputError(
                f"the network's embedding '{name}' takes whole numbers, 0 to {size - 1}, but the columns of a table "
                "are scaled: use codes for those that hold categories; to keep ids as they are, give a .npz file whose "
                "whole numbers are all embedded, or load(array, target=..., normalise=False)"
            )
        raise InputError(
            f"the network's embedding '{name}' takes whole numbers, 0 to {size - 1}, but the inputs are scaled: to "
            "keep ids as they are, give a .npz file whose whole numbers are all embedded, or load(array, target=..., "
            "normalise=False)"
        )


def refuse_changed_codes(model: Model, data: Data, knobs: Iterable[str]) -> None:
    """Refuse knobs that change inputs where some are codes of categories: a table's, or embedded numbers of an array.

    Args:
        model: as for `Population`.
        data: what it trains on.
        knobs: that are turned.

    Raises:
        InputError: one of them mixes, drops or blurs codes.
    """
    wrong = [name for name in knobs if name in CHANGES_INPUTS]
    refuse_changed_columns(data.codes, wrong)
    embedding = embedding_of_codes(model, data) if wrong else None
    if embedding is not None:
        raise InputError(
            f"{wrong[0]} changes the codes of categories that the network's embedding '{embedding}' takes: leave it out"
        )


def _noting(taken: list[tuple[str, Tensor]], name: str) -> Callable[[nn.Module, Any], None]:
    def note(_: nn.Module, inputs: Any) -> None:
        taken.append((name, inputs[0]))

    return note


def embedding_of_codes(model: Model, data: Data) -> str | None:
    """Return the name of an embedding that takes columns of an array's real numbers as they are; None without one."""
    if data.columns is not None or not data.features.is_floating_point():
        return None
    network = Builder(model)(0, data.inputs, data.outputs).eval()
    taken: list[tuple[str, Tensor]] = []
    for name, module in network.named_modules():
        if isinstance(module, _EMBEDDINGS):
            module.register_forward_pre_hook(_noting(taken, name))
    rows = data.train.features[:_ROWS]
    try:
        with torch.no_grad():
            network(rows)
    except Exception:  # the check of the network has the message
        return None
    columns = rows.flatten(1)
    for name, ids in taken:
        if ids.numel() % len(rows) == 0:
            each = ids.reshape(len(rows), -1)
            if (each[:, :, None] == columns[:, None]).all(0).any(1).all():
                return name
    return None


def _scaled(data: Data) -> Tensor:
    """Return inputs such as the data's; of a table any within reach, for its own may all lie between -1 and 1."""
    if data.columns is None:
        return data.train.features[:_ROWS]
    uniforms = torch.rand(_ROWS, *data.inputs, generator=torch.Generator().manual_seed(0))
    return with_codes(_SCALED * (2 * uniforms - 1), data)


def with_codes(rows: Tensor, data: Data) -> Tensor:
    """Return made-up rows with codes of a table's own rows where it has codes."""
    own = data.train.features
    for code in data.codes:
        rows[..., code.place] = own[torch.arange(len(rows)) % len(own), code.place]
    return rows


def _failed(network: nn.Module, rows: Tensor) -> tuple[str, int] | None:
    """Return name and rows of the embedding in which a network fails; None if in none."""
    inside: list[tuple[str, int]] = []
    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, _EMBEDDINGS):
            entered = name or type(module).__name__, int(module.num_embeddings)
            hooks.append(module.register_forward_pre_hook(lambda *_, entered=entered: inside.append(entered)))
            hooks.append(module.register_forward_hook(lambda *_: inside.clear()))
    try:
        with torch.no_grad():
            network(rows)
    except Exception:
        return inside[-1] if inside else None  # elsewhere: the error of the training names the layer
    finally:
        for hook in hooks:
            hook.remove()
    return None
