"""A trained network on new inputs: the program that evaluated it in training, and its arrays."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np
import optax

from cwjax.arms.row import EVALUATED, uniform_row
from cwjax.config import TrainConfig
from cwjax.errors import ConfigError
from cwjax.models.registry import model_factory
from cwjax.training.chunk import evaluation_batch
from cwjax.training.devices import MATMUL_PRECISION
from cwjax.training.lanes import Lane
from cwjax.training.step import Examples, kept_arrays, kept_tree, make_programs


class Predictor:
    """Logits of one trained network.

    On CPU they equal those that training stored to the last bit, with the same versions and number
    of threads.

    Args:
        model: as `--model` takes it.
        input_shape: of one example.
        num_classes: columns of the logits.
        arrays: of `step.kept_arrays`, and the fields `EVALUATED` of the run's row as `row/scale`.
        precision: of matrix products on accelerators, as `--precision` takes it.

    Raises:
        ConfigError: the arrays are those of another network.
    """

    def __init__(
        self,
        model: str,
        input_shape: tuple[int, ...],
        num_classes: int,
        arrays: Mapping[str, np.ndarray],
        precision: str,
    ) -> None:
        factory = model_factory(model, input_shape, num_classes)
        programs = make_programs(factory, optax.identity(), TrainConfig(), num_classes)
        self._row = uniform_row(num_classes)._replace(
            **{field: arrays[f"row/{field}"] for field in EVALUATED}
        )
        key = np.zeros(2, np.uint32)
        empty = jax.eval_shape(programs.initial_state, key, self._row)
        shapes = {name: leaf.shape for name, leaf in kept_arrays(empty).items()}
        given = {n: a.shape for n, a in arrays.items() if not n.startswith("row/")}
        if shapes != given:
            name = next(n for n in {**shapes, **given} if shapes.get(n) != given.get(n))
            raise ConfigError(
                f"the model's {name} is {given.get(name)}, of {model} it would be "
                f"{shapes.get(name)}: give the model that was trained"
            )
        kept = jax.tree.unflatten(
            jax.tree.structure(kept_tree(empty)), [arrays[name] for name in shapes]
        )
        self._lane = Lane(jax.local_devices()[:1], None)
        # Evaluation reads neither the optimiser's state nor what training counts.
        state = empty._replace(**kept, opt_state=(), key=key, step=0, loss_sum=0)
        self._state = self._lane.put_shared(state)
        self._programs = self._lane.compile(programs)
        self._precision = MATMUL_PRECISION[precision]

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """Logits float32 `[num_examples, num_classes]`.

        Args:
            inputs: as in a `Dataset`: uint8 `[num_examples, height, width, channels]` or float32
                `[num_examples, num_features]`.
        """
        size = evaluation_batch(inputs.shape[1:])
        labels = np.zeros(size, np.int32)
        indices = np.arange(size, dtype=np.int32)
        parts = [np.zeros((0, len(self._row.class_weights)), np.float32)]
        for start in range(0, len(inputs), size):
            batch = inputs[start : start + size]
            padding = [(0, size - len(batch)), *[(0, 0)] * (inputs.ndim - 1)]
            examples = self._lane.put_shared(Examples(np.pad(batch, padding), labels))
            with jax.default_matmul_precision(self._precision):
                part = self._programs.evaluate(self._state, self._row, examples, indices)
            parts.append(np.asarray(part)[: len(batch)])
        return np.concatenate(parts)
