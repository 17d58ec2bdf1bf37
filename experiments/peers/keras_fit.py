"""Keras as the notebook has it: the same `Sequential`, `compile` and `fit`, on either backend."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from experiments.peers import Training, Work

if TYPE_CHECKING:
    import keras


def build_model(num_classes: int) -> keras.Model:
    """The notebook's network, compiled as the notebook compiles it, its accuracy included."""
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, (3, 3), activation="relu"),
            layers.MaxPooling2D(2, 2),
            layers.Dropout(0.5),
            layers.Conv2D(64, (3, 3), activation="relu"),
            layers.MaxPooling2D(2, 2),
            layers.Dropout(0.5),
            layers.Conv2D(64, (3, 3), activation="relu"),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(num_classes, activation="softmax"),
        ]
    )
    model.compile(  # RMSprop's learning rate is 1e-3
        optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def prepare(work: Work, *, backend: str) -> Training:
    """The model; a `fit` of one batch compiles its training function.

    Args:
        work: the data.
        backend: tensorflow or jax; Keras reads it once, when it is first imported.
    """
    os.environ["KERAS_BACKEND"] = backend
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(work.num_threads)
        tf.config.threading.set_inter_op_parallelism_threads(work.num_threads)
    import keras

    num_classes = work.network.num_classes
    keras.utils.set_random_seed(0)
    model = build_model(num_classes)
    targets = keras.utils.to_categorical(work.labels, num_classes)

    def fit(num_examples: int, num_epochs: int) -> float:
        history = model.fit(
            work.inputs[:num_examples],
            targets[:num_examples],
            batch_size=work.batch_size,
            epochs=num_epochs,
            verbose=0,
        )
        return float(history.history["loss"][-1])

    return Training(
        lambda: fit(work.batch_size, 1), lambda num_epochs: fit(len(work.labels), num_epochs)
    )
