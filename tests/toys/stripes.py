"""A source of data: two classes of striped images."""

from __future__ import annotations

import numpy as np

from cwjax.data.dataset import Dataset
from cwjax.data.sources import ReadOptions


def read(place: str, options: ReadOptions) -> Dataset:
    """Images `[n, 12, 12, 1]` whose stripes run one way or the other; `place` is their number."""
    num_examples = int(place)
    rng = np.random.default_rng(0)
    labels = np.arange(num_examples, dtype=np.int32) % 2
    images = rng.integers(0, 200, (num_examples, 12, 12, 1), dtype=np.uint8)
    images[labels == 0, ::4] = 255
    images[labels == 1, :, ::4] = 255
    return Dataset("stripes", images, labels, num_examples * 3 // 4, ("rows", "columns"))
