"""Exported models in Python: `cwjax.load_model`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cwjax.arms.posthoc import Adjustment
from cwjax.config import RuntimeConfig
from cwjax.errors import ConfigError
from cwjax.models.registry import OWN_MODEL, own_model_digest, register_model
from cwjax.store import schema
from cwjax.store.schema import ExportedModel
from cwjax.study.export import ARRAYS, MODEL


class LoadedModel:
    """An exported model; made by `load_model`.

    Attributes:
        about: all that is known of it: the run, its data set, class names, temperature, scores.
    """

    def __init__(self, about: ExportedModel, model: str, arrays: Mapping[str, np.ndarray]) -> None:
        from cwjax.training.predict import Predictor

        self.about = about
        own = {name: a for name, a in arrays.items() if not name.startswith("adjustment/")}
        self._adjustment = None
        if len(own) < len(arrays):
            self._adjustment = Adjustment(arrays["adjustment/shift"], arrays["adjustment/divisor"])
        shape, num_classes = about.dataset.input_shape, len(about.dataset.class_names)
        self._predictor = Predictor(model, shape, num_classes, own, about.precision)

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per class, in the order of the logits."""
        return self.about.dataset.class_names

    def logits(self, inputs: ArrayLike) -> np.ndarray:
        """Logits float32 `[num_examples, num_classes]`, as the study's test logits.

        Args:
            inputs: pixels uint8 `[num_examples, height, width, channels]`, or features
                `[num_examples, num_features]`, NaN where missing, in the order of `about.columns`
                and not standardised; of a pandas data frame with named columns these are taken by
                name, in any order, and others are left out.

        Raises:
            ConfigError: inputs of another type or shape, or a data frame without a column.
        """
        if self.about.columns and hasattr(inputs, "columns"):
            inputs = _by_name(inputs, self.about.columns)
        shape, array = self.about.dataset.input_shape, np.asarray(inputs)
        if array.shape[1:] != shape or array.ndim != len(shape) + 1:
            takes = ", ".join(map(str, ("n", *shape)))
            raise ConfigError(f"inputs have shape {array.shape}: give the model [{takes}]")
        is_image = len(shape) == 3
        if is_image and array.dtype != np.uint8:
            raise ConfigError(f"inputs are {array.dtype}: give the model pixels, uint8 0 to 255")
        if not is_image and array.dtype.kind not in "iufb":
            raise ConfigError(f"inputs are {array.dtype}: give the model numbers")
        logits = self._predictor.logits(array if is_image else array.astype(np.float32))
        if self._adjustment is not None:
            logits = self._adjustment(logits).astype(np.float32)
        return logits

    def predict(self, inputs: ArrayLike) -> np.ndarray:
        """The name of the likeliest class of each input, `[num_examples]`; errors as `logits`."""
        names: np.ndarray = np.asarray(self.class_names)[self.logits(inputs).argmax(axis=1)]
        return names

    def predict_proba(self, inputs: ArrayLike) -> np.ndarray:
        """Probabilities float64 `[num_examples, num_classes]`: softmax(logits / temperature).

        The temperature was fitted on validation examples. Errors as `logits`.
        """
        logits = self.logits(inputs) / np.float64(self.about.temperature or 1.0)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _by_name(frame: Any, columns: Sequence[str]) -> Any:
    """A pandas frame's columns in the model's order; one that has no names is left as it is."""
    import pandas as pd

    if not isinstance(frame, pd.DataFrame) or isinstance(frame.columns, pd.RangeIndex):
        return frame
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ConfigError(
            f"the data frame has no column {missing[0]!r}, which the model was trained with"
            + (f", nor {len(missing) - 1} others" if len(missing) > 1 else "")
        )
    return frame[list(columns)]


def load_model(directory: Path | str, model: Callable[..., Any] | None = None) -> LoadedModel:
    """Loads what `cwjax export` wrote.

    Where JAX has not started yet, it is set up with the threads that training had, so that logits
    on CPU are those of the study to the last bit.

    Args:
        directory: of the exported model.
        model: the class or function that made the network, where it was one of a program's own.

    Raises:
        ConfigError: it holds no exported model, a damaged one, or one of another network.
    """
    from cwjax.training.devices import prepare

    path = Path(directory)
    try:
        about = schema.read_exported((path / MODEL).read_bytes(), MODEL)
        with (path / ARRAYS).open("rb") as file:
            arrays = schema.read_npz(file, ARRAYS)
    except OSError as error:
        raise ConfigError(f"{path} holds no exported model: {error.strerror}") from None
    name, digest = about.model, None
    if model is not None:
        name = register_model(model)
        digest = own_model_digest(name)
    elif OWN_MODEL.fullmatch(about.model):
        name = str(path / about.model)
        if not (path / about.model.rpartition(":")[0]).is_file():
            raise ConfigError(f"{path} lacks {about.model.rpartition(':')[0]}, its network")
        digest = own_model_digest(name)
    if digest != about.own_model:
        raise ConfigError(
            f"the model was trained with another source of {about.model} than the one here: give "
            "model= the class or function that it was trained with"
        )
    prepare(RuntimeConfig(compile_cache=False), about.cpu_threads)
    return LoadedModel(about, name, arrays)
