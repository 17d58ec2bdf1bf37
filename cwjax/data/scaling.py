"""How one run standardises features, from nothing but the examples that it trains on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cwjax.data.dataset import Dataset


class Scaling(NamedTuple):
    """A feature x becomes `((fill where x is missing, else x) - mean) / scale`.

    Each float32 `[num_features]`; empty for images.
    """

    fill: npt.NDArray[np.float32]
    mean: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]


def feature_scaling(dataset: Dataset, train_indices: npt.NDArray[np.int32]) -> Scaling:
    """Medians of the numbers that are there, then means and standard deviations of all.

    The same as scikit-learn's `SimpleImputer(strategy="median")` and `StandardScaler` fitted on
    the run's training rows. Categories (columns of 0 and 1) are left as they are; a number that is
    the same, or missing, in all of these rows becomes 0.

    Args:
        dataset: any; images get an empty scaling.
        train_indices: `[num_train]`, the examples that the run trains on.
    """
    num_features = len(dataset.columns)
    fill, mean = np.zeros(num_features), np.zeros(num_features)
    scale = np.ones(num_features)
    numeric = np.flatnonzero([column.is_numeric for column in dataset.columns])
    if len(numeric):
        values = dataset.inputs[train_indices][:, numeric].astype(np.float64)
        missing = np.isnan(values)
        for place in np.flatnonzero(missing.any(axis=0)):
            known = values[~missing[:, place], place]
            fill[numeric[place]] = np.median(known) if len(known) else 0.0
            values[missing[:, place], place] = fill[numeric[place]]
        mean[numeric] = values.mean(axis=0)
        spread = values.std(axis=0)
        # What the mean's rounding leaves of a constant is no spread.
        constant = spread <= 1e-12 * np.abs(mean[numeric])
        scale[numeric] = np.where(constant, 1.0, spread)
    return Scaling(*(array.astype(np.float32) for array in (fill, mean, scale)))
