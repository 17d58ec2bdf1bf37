"""PyTorch, eager: the data set as two tensors in memory, batches by index, no DataLoader."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from experiments.peers import LEARNING_RATE, Network, Training, Work


def build_model(network: Network) -> nn.Sequential:
    """The network: `[batch, ...]` to logits; the notebook's takes images channels first."""
    if network.hidden is not None:
        sizes = list(itertools.pairwise(network.widths))
        dense = [layer for size in sizes for layer in (nn.Linear(*size), nn.ReLU())]
        return nn.Sequential(*dense[:-1])
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(3 * 3 * 64, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, network.num_classes),
    )


def prepare(work: Work, *, channels_last: bool) -> Training:
    """The model; a first step plans the kernels and allocates the optimizer's state."""
    torch.manual_seed(0)
    torch.set_num_threads(work.num_threads)
    model = build_model(work.network).train()
    inputs = torch.from_numpy(work.inputs)
    if work.network.hidden is None:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        model = model.to(memory_format=layout)
        inputs = inputs.permute(0, 3, 1, 2).contiguous(memory_format=layout)
    labels = torch.from_numpy(work.labels).long()
    optimizer = _optimizer(work.network.optimizer, model)
    cross_entropy = nn.CrossEntropyLoss()

    def train_step(batch: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        return loss.detach()

    def train_epochs(num_epochs: int) -> float:
        for _ in range(num_epochs):
            batches = torch.randperm(len(labels)).split(work.batch_size)
            mean_loss: float = torch.stack([train_step(batch) for batch in batches]).mean().item()
        return mean_loss

    return Training(lambda: train_step(torch.arange(work.batch_size)), train_epochs)


def _optimizer(name: str, model: nn.Module) -> torch.optim.Optimizer:
    if name == "adam":
        return torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    return torch.optim.RMSprop(model.parameters(), lr=LEARNING_RATE, alpha=0.9, eps=1e-7)
