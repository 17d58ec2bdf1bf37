"""Write torch_mlp.npz: thirty training steps of a small dense network, taken by PyTorch itself.

Run by hand, from this directory, in an environment with torch==2.13.0 and NumPy (README.md here
has the versions of the committed file):

    python make_torch_golden.py

ReLU has kinks, and an activation that rounding alone carries over one changes gradients by more
than rounding. A float64 copy of the same steps shows whether that happens: where the losses of the
two part, another SEED is to be taken.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

NUM_STEPS = 30
BATCH_SIZE = 32
WIDTHS = (12, 24, 16, 5)
SEED = 0
TOLERANCE = 2e-6  # relative, of the losses in float32 and float64
GOLDEN_FILE = Path(__file__).parent / "torch_mlp.npz"


def build_model() -> torch.nn.Sequential:
    """Dense layers with ReLU between them, initialised as PyTorch does."""
    layers: list[torch.nn.Module] = []
    for in_width, width in itertools.pairwise(WIDTHS):
        layers += [torch.nn.Linear(in_width, width), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def sgd(model: torch.nn.Module) -> tuple[torch.optim.Optimizer, object]:
    """Momentum, Nesterov's form, weight decay in the gradient, half a cosine."""
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-3
    )
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=NUM_STEPS)


def adamw(model: torch.nn.Module) -> tuple[torch.optim.Optimizer, object]:
    """Decoupled weight decay, a constant learning rate."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def train(
    model: torch.nn.Module,
    make_optimizer: Callable[[torch.nn.Module], tuple[torch.optim.Optimizer, object]],
    inputs: np.ndarray,
    labels: np.ndarray,
) -> np.ndarray:
    """The loss of every batch before its update, `[num_steps]`."""
    optimizer, scheduler = make_optimizer(model)
    dtype = next(model.parameters()).dtype
    losses = []
    for batch, targets in zip(inputs, labels, strict=True):
        optimizer.zero_grad()
        logits = model(torch.from_numpy(batch).to(dtype))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets).long())
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return np.array(losses)


def main() -> None:
    """Train, and write the file."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    labels = rng.integers(0, WIDTHS[-1], (NUM_STEPS, BATCH_SIZE), dtype=np.int32)
    centers = rng.normal(size=(WIDTHS[-1], WIDTHS[0]))
    noise = rng.normal(size=(NUM_STEPS, BATCH_SIZE, WIDTHS[0]))
    inputs = (centers[labels] + noise).astype(np.float32)
    initial = build_model()
    golden = {"inputs": inputs, "labels": labels}
    linear = [layer for layer in initial if isinstance(layer, torch.nn.Linear)]
    for number, layer in enumerate(linear):
        golden[f"{number}/kernel"] = layer.weight.detach().numpy().T.copy()
        golden[f"{number}/bias"] = layer.bias.detach().numpy().copy()
    for make_optimizer in (sgd, adamw):
        exact = train(copy.deepcopy(initial).double(), make_optimizer, inputs, labels)
        losses = train(copy.deepcopy(initial), make_optimizer, inputs, labels)
        error = np.abs(losses / exact - 1).max()
        print(f"{make_optimizer.__name__}: {losses[0]:.4f} to {losses[-1]:.4f}, error {error:.1e}")
        if error > TOLERANCE:
            raise RuntimeError("an activation has crossed a kink: try another SEED")
        golden[f"{make_optimizer.__name__}/losses"] = losses
    np.savez_compressed(GOLDEN_FILE, **golden)
    print(f"{GOLDEN_FILE.name}: {GOLDEN_FILE.stat().st_size:,} bytes, torch {torch.__version__}")


if __name__ == "__main__":
    main()
