"""Classifiers whose process ends, or whose fit fails, where examples have weights."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class Deadly(ClassifierMixin, BaseEstimator):
    """Where weights are balanced its process ends, as a lack of memory ends it: once, or always."""

    def __init__(self, folder: str = "", always: bool = False) -> None:
        self.folder = folder
        self.always = always

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray) -> Deadly:
        mark = Path(self.folder) / str(len(list(Path(self.folder).iterdir())))
        if not (sample_weight == 1).all() and (self.always or not any(mark.parent.iterdir())):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


class Failing(Deadly):
    """Fails where the weights are balanced, with an error that no other process can unpickle."""

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray) -> Deadly:
        class OwnError(Exception):
            def __init__(self, *, needed: int) -> None:
                super().__init__("these weights\nare too much")

        if not (sample_weight == 1).all():
            raise OwnError(needed=1)
        return super().fit(X, y, sample_weight)
