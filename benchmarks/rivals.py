"""What the population is measured against: ordinary PyTorch, as it is written and as it can be written.

Each function prepares its training and returns a function that trains one more epoch.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.utils.data import DataLoader, Dataset

Epoch = Callable[[], None]


class ToTensor:
    """A PIL image to float32 in [0, 1], `[1, H, W]`, step by step as torchvision's transform of that name does it."""

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the image's tensor."""
        pixels = torch.from_numpy(np.array(image, np.uint8, copy=True))
        pixels = pixels.view(image.size[1], image.size[0], len(image.getbands())).permute((2, 0, 1)).contiguous()
        return pixels.to(dtype=torch.get_default_dtype()).div(255)


class Normalize(nn.Module):
    """Subtract a mean and divide by a standard deviation, step by step as torchvision's transform of that name."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, image: Tensor) -> Tensor:
        """Return the image normalised by channel."""
        image = image.clone()
        mean = torch.as_tensor(self.mean, dtype=image.dtype, device=image.device)
        std = torch.as_tensor(self.std, dtype=image.dtype, device=image.device)
        if (std == 0).any():
            raise ValueError("std evaluated to zero")
        return image.sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))


class Images(Dataset):
    """Pictures in memory, transformed one by one when they are asked for."""

    def __init__(self, pixels: Tensor, targets: Tensor):
        self.pixels, self.targets = pixels, targets
        self.transforms = [ToTensor(), Normalize((0.5,), (0.5,))]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        image: Any = Image.fromarray(self.pixels[i].numpy(), mode="L")
        for transform in self.transforms:
            image = transform(image)
        return image, int(self.targets[i])


class Net(nn.Module):
    """784-256-128-10 with ReLU and dropout, as a user writes it."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(784, 256), nn.Linear(256, 128), nn.Linear(128, 10)
        self.dropout1, self.dropout2 = nn.Dropout(0.3), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[B, 10]`."""
        x = x.view(x.size(0), -1)
        x = self.dropout1(torch.relu(self.fc1(x)))
        x = self.dropout2(torch.relu(self.fc2(x)))
        return self.fc3(x)


def script(pixels: Tensor, targets: Tensor, batch_size: int = 128) -> Epoch:
    """Train by a script as such scripts are written: Dataset, DataLoader, a transform per image, Adam."""
    loader = DataLoader(Images(pixels, targets), batch_size=batch_size, shuffle=True)
    network, criterion = Net(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)

    def epoch() -> None:
        network.train()
        total_loss, correct, total = 0.0, 0, 0
        for images, labels in loader:
            outputs = network(images)
            loss = criterion(outputs, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total_loss += loss.item() * images.size(0)
            correct += (outputs.argmax(1) == labels).sum().item()
            total += images.size(0)

    return epoch


def plain(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    batch_size: int,
    optimizer: torch.optim.Optimizer | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> Epoch:
    """Train by a well-written loop: rows in memory, Adam in one fused call, sums read once an epoch."""
    optimizer = optimizer or torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def epoch() -> None:
        total = torch.zeros((), dtype=torch.float64)
        for rows in torch.randperm(len(targets)).split(batch_size):
            value = loss(network(inputs.index_select(0, rows)), targets.index_select(0, rows))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            total += value.detach() * len(rows)
        total.item()

    return epoch


def ensemble(make: Callable[[], nn.Module], K: int, inputs: Tensor, targets: Tensor, batch_size: int) -> Epoch:
    """Train K members by the torch.func recipe: stacked parameters, `vmap` over members, one Adam for all."""
    networks = [make() for _ in range(K)]
    parameters, buffers = stack_module_state(networks)
    skeleton = copy.deepcopy(networks[0]).to("meta")
    optimizer = torch.optim.Adam(parameters.values(), lr=1e-3, fused=True)

    def loss(parameters: Any, buffers: Any, inputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(skeleton, (parameters, buffers), (inputs,)), targets)

    gradients_of_all = vmap(grad_and_value(loss), in_dims=(0, 0, None, None), randomness="different")

    def epoch() -> None:
        total = torch.zeros(K, dtype=torch.float64)
        for rows in torch.randperm(len(targets)).split(batch_size):
            gradients, values = gradients_of_all(
                parameters, buffers, inputs.index_select(0, rows), targets.index_select(0, rows)
            )
            for name, p in parameters.items():
                p.grad = gradients[name]
            optimizer.step()
            total += values.detach() * len(rows)
        total.tolist()

    return epoch
