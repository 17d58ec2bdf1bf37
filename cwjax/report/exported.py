"""The README of an exported model: how its arrays become predictions, with cwjax and without."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cwjax.models.registry import OWN_MODEL
from cwjax.report.markdown import escape, markdown_table
from cwjax.report.tables import Table
from cwjax.store.schema import ExportedModel

_BELOW_HEAD = {
    "cnn": "conv1 (3 x 3, no padding), ReLU, 2 x 2 max pooling; conv2 likewise; conv3, ReLU; "
    "flattened by height, width, channel; dense, ReLU",
    "resnet20": "ResNet-20 as in cwjax/models/resnet.py",
    "resnet32": "ResNet-32 as in cwjax/models/resnet.py",
}
"""What the networks of cwjax compute below the head, where it is not written out."""


def readme(model: ExportedModel, arrays: Mapping[str, np.ndarray]) -> str:
    """The page as Markdown.

    Args:
        model: what is known of it.
        arrays: its own, by name.
    """
    names = ", ".join(f"{i} {escape(name)}" for i, name in enumerate(model.dataset.class_names))
    shapes = Table(
        "",
        ("array", "type", "shape"),
        tuple((name, str(a.dtype), str(list(a.shape))) for name, a in sorted(arrays.items())),
    )
    return f"""# {escape(model.run)} on {escape(model.dataset.name)}

Trained and exported by cwjax {model.cwjax}. Classes: {names}. {_probabilities(model)}

```python
import cwjax

model = cwjax.load_model("path/of/this/directory"{_own_class(model)})
model.predict(inputs)  # class names; also .predict_proba(inputs) and .logits(inputs)
```

## Without cwjax

`arrays.npz` holds everything. Kernels are `[inputs, outputs]`, those of convolutions
`[height, width, inputs, outputs]`.

```python
{_code(model, arrays)}
```

{markdown_table(shapes)}
"""


def _probabilities(model: ExportedModel) -> str:
    if model.temperature is None:
        return "Probabilities are softmax(logits)."
    return (
        f"Probabilities are softmax(logits / {model.temperature:.6g}); the temperature was fitted "
        "on the run's validation examples."
    )


def _own_class(model: ExportedModel) -> str:
    """The further argument of `load_model` where the network is a program's own."""
    return "" if model.own_model is None or OWN_MODEL.fullmatch(model.model) else ", model=..."


def _code(model: ExportedModel, arrays: Mapping[str, np.ndarray]) -> str:
    """A function from inputs to logits; what the network of a convolution does is a comment."""
    lines = ["import numpy as np", "", 'with np.load("arrays.npz") as file:', "    a = dict(file)"]
    lines += ["", "", "def logits(x):"]
    if len(model.dataset.input_shape) == 3:
        lines.append("    x = x.astype(np.float32) / 255  # uint8 [n, height, width, channels]")
    else:
        if model.columns:
            lines.append(f"    # columns of x: {ascii(list(model.columns))[1:-1]}")
        lines.append('    x = np.where(np.isnan(x), a["row/input_fill"], x)')
        lines.append('    x = (x - a["row/input_mean"]) / a["row/input_scale"]')
    name = model.model.partition(":")[0]
    if name in ("mlp", "linear"):
        lines.append("    x = x.reshape(len(x), -1)")
        for layer in range(sum(n.startswith("params/layers/") for n in arrays) // 2):
            place = f"params/layers/{layer}"
            lines.append(f'    x = np.maximum(x @ a["{place}/kernel"] + a["{place}/bias"], 0)')
    else:
        below = _BELOW_HEAD.get(name, f"{model.model} below its head, if it has one")
        lines.append(f"    x = ...  # {below}")
    return "\n".join([*lines, *_head(arrays)])


def _head(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """From the inputs of the head to the logits."""
    kernel, lines = 'a["params/head/kernel"]', []
    if arrays["row/normalized_head"] > 0:
        lines.append("    x = x / np.linalg.norm(x, axis=1, keepdims=True)")
        lines.append(f"    z = x @ ({kernel} / np.linalg.norm({kernel}, axis=0))")
    elif "params/head/kernel" in arrays:
        bias = ' + a["params/head/bias"]' if "params/head/bias" in arrays else ""
        lines.append(f"    z = x @ {kernel}{bias}")
    else:
        lines.append("    z = x")
    lines.append('    z = a["row/scale"] * a["class_scale"] * z')
    if "adjustment/shift" in arrays:
        lines.append('    z = (z - a["adjustment/shift"]) / a["adjustment/divisor"]')
    return [*lines, "    return z"]
