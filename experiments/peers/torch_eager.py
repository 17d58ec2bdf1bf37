"""PyTorch, eager: the data set as two tensors in memory, batches by index, no DataLoader."""

from __future__ import annotations

import torch
from torch import nn

from experiments.peers import LEARNING_RATE, NUM_CLASSES, Training, Work


def build_model() -> nn.Sequential:
    """The notebook's network, channels first: `[batch, 1, 28, 28]` to logits `[batch, 10]`."""
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
        nn.Linear(128, NUM_CLASSES),
    )


def prepare(work: Work, *, channels_last: bool) -> Training:
    """The model; a first step plans the kernels and allocates the optimizer's state."""
    torch.manual_seed(0)
    torch.set_num_threads(work.num_threads)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = build_model().to(memory_format=layout).train()
    images = torch.from_numpy(work.images).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    labels = torch.from_numpy(work.labels).long()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=LEARNING_RATE, alpha=0.9, eps=1e-7)
    cross_entropy = nn.CrossEntropyLoss()

    def train_step(batch: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        return loss.detach()

    def train_epoch() -> float:
        batches = torch.randperm(len(labels)).split(work.batch_size)
        mean_loss: float = torch.stack([train_step(batch) for batch in batches]).mean().item()
        return mean_loss

    return Training(lambda: train_step(torch.arange(work.batch_size)), train_epoch)
