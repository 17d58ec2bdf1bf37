"""Models by name: their settings, what they take, and files of the user's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from cwjax.arms.grammar import parse_arms
from cwjax.arms.row import uniform_row
from cwjax.arms.settings import first_line
from cwjax.config import TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.errors import ConfigError
from cwjax.models.registry import MODELS, check_input, find_model, model_factory, model_name
from cwjax.training.local import check_own_model
from cwjax.training.runs import Run, RunKey

IMAGE = (28, 28, 1)


def widths(text: str, input_shape: tuple[int, ...] = IMAGE) -> list[tuple[int, ...]]:
    """Shapes of all kernels, the head's last."""
    model = nnx.eval_shape(lambda: model_factory(text, input_shape, 10)(nnx.Rngs(0)))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    head = params.pop("head")
    return [leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim > 1] + [
        head["kernel"].shape
    ]


def test_names_and_settings() -> None:
    assert widths("mlp", (60,)) == [(60, 256), (256, 128), (128, 10)]
    assert widths("mlp:hidden=7:dropout=0", (60,)) == [(60, 7), (7, 10)]
    assert widths("linear", (60,)) == [(60, 10)]
    assert widths("linear") == [(784, 10)]
    assert widths("auto", (60,)) == widths("mlp", (60,))
    assert widths("auto") == widths("cnn")
    assert model_name("auto", IMAGE) == "cnn"
    assert model_name("resnet20", IMAGE) == "resnet20"
    assert all(first_line(entry.make) for entry in MODELS.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rsnet20", r"--model is 'rsnet20' \(did you mean 'resnet20'\?\): choose one of auto, cnn"),
        ("mlp:hidden=0", "--model 'mlp:hidden=0': hidden='0': give an integer from 1 to 100000"),
        ("mlp:hidden=8,", "hidden='8,': give an integer"),
        ("mlp:hidden=8:hidden=9", "hidden= is given twice"),
        ("mlp:dropout=1", r"dropout='1': out of range; give a number in \[0, 0.99\]"),
        ("mlp:width=3", "mlp has no setting 'width'; its settings: hidden, dropout"),
        ("linear:dropout=0", "linear has no setting 'dropout'; it has no settings"),
        ("cnn:dropout", "'dropout' is not key=value"),
        ("mine.py", "name the model in it, too, e.g. mine.py:Net"),
        ("mine.py:Net", "there is no file mine.py"),
    ],
)
def test_mistakes_are_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        find_model(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("cnn", (17, 28, 1), "digits: images are 17 x 28, cnn needs at least 18 x 18: enlarge"),
        ("auto", (17, 28, 1), "cnn needs at least 18 x 18: enlarge them, or give --model mlp"),
        ("cnn", (3, 32, 32), r"channels first\? give images as \[n, 32, 32, 3\]"),
        ("resnet20", (2, 2, 1), "resnet20 needs at least 4 x 4"),
        (
            "cnn:dropout=0.2",
            (60,),
            "digits: cnn takes images, these are features: give --model mlp",
        ),
    ],
)
def test_inputs_that_a_model_does_not_take(text: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_input(text, shape, "digits")


def test_inputs_that_a_model_takes() -> None:
    for text, shape in (("auto", (60,)), ("mlp", IMAGE), ("linear", (1, 1, 1)), ("cnn", IMAGE)):
        check_input(text, shape, "digits")


def test_the_registries_do_not_import_jax() -> None:
    code = (
        "import sys\n"
        "from cwjax.models.registry import check_input\n"
        "from cwjax.training.optim import find_optimizer, find_schedule\n"
        "from cwjax.training.augment import find_augmentation\n"
        "check_input('resnet20', (32, 32, 3), '')\n"
        "find_optimizer('sgd:nesterov=1'), find_schedule('step:at=0.5')\n"
        "find_augmentation('flip')\n"
        "sys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_cnns_dropout_is_a_setting() -> None:
    images = np.random.default_rng(0).random((4, *IMAGE)).astype(np.float32)
    key = jax.random.key(0)

    def zeros(text: str) -> float:
        model = model_factory(text, IMAGE, 10)(nnx.Rngs(0))
        features = model.features(images, dropout_key=key)
        active = np.asarray(model.features(images)) > 0
        return float((np.asarray(features)[active] == 0).mean())

    assert zeros("cnn:dropout=0") == 0
    assert zeros("cnn:dropout=0.9") > zeros("cnn") > 0.2


# Files of the user's own -------------------------------------------------------------------------

OWN = """
import jax, jax.numpy as jnp
from flax import nnx

class Net(nnx.Module):
    def __init__(self, input_shape, num_classes, *, rngs, width=8):
        self.body = nnx.Linear(18 * 18, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, num_classes, rngs=rngs)

    def features(self, inputs, *, mask=None):
        x = self.body(inputs.reshape(len(inputs), -1))
        mask = None if mask is None else mask[:, None]
        return nnx.relu(self.norm(x, mask=mask))
"""
LOGITS = OWN.replace("def features(self, inputs, *, mask=None)", "def __call__(self, inputs)")
LOGITS = LOGITS.replace("mask = None if mask is None else mask[:, None]", "mask = None")
LOGITS = LOGITS.replace("return nnx.relu", "return self.head(nnx.relu").replace("mask))", "mask)))")


def check(source: str, dataset: Dataset, directory: Path, *arms: str, name: str = "Net") -> None:
    """As a study would, before it writes anything."""
    file = directory / "net.py"
    file.write_text(source)
    indices = np.arange(60, dtype=np.int32)
    run = Run(RunKey("", "uniform", 0), 0, uniform_row(3), indices, indices, indices, 1, 1)
    config = TrainConfig(model=f"{file}:{name}", num_epochs=1, batch_size=16)
    check_input(config.model, dataset.input_shape, dataset.name)
    check_own_model(run, dataset, config, parse_arms(arms or ["uniform", "crt", "tau_norm"]))


@pytest.mark.fault(86)
def test_a_file_with_a_model_is_taken(tiny_dataset: Dataset, tmp_path: Path) -> None:
    check(OWN, tiny_dataset, tmp_path)


@pytest.mark.fault(86)
def test_a_model_that_only_makes_logits_is_taken_without_some_arms(
    tiny_dataset: Dataset, tmp_path: Path
) -> None:
    check(LOGITS, tiny_dataset, tmp_path, "uniform", "balanced", "lws", "posthoc_logit_adjusted")
    with pytest.raises(ConfigError, match=r"net.py:Net: crt, ldam, tau_norm need its head: give"):
        check(LOGITS, tiny_dataset, tmp_path, "uniform", "crt", "ldam", "tau_norm", "lws")


@pytest.mark.fault(86)
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("import jax,", "import jacks,", r"cannot be imported \(ModuleNotFoundError: No module"),
        ("class Net", "clas Net", r"cannot be imported \(SyntaxError"),
        ("class Net", "class Nett", r"no model 'Net' \(did you mean 'Nett'\?\); it has Nett"),
        (
            "class Net(nnx.Module):",
            "def Net(rngs):\n  return 7\nclass X(nnx.Module):",
            "makes a int",
        ),
        ("width=8", "width", "it asks for width: give that a default"),
        ("width=8", "width='8'", r"cannot be built \(TypeError"),
        ("18 * 18", "17 * 18", r"inputs \[16, 18, 18, 1\] fail in it \("),
        ("(width, num_classes,", "(width, 7,", r"kernel is \[8, 7\]: give \[16, width\] and"),
        (
            "return nnx.relu",
            "return 0 * jnp.log(0.0) + nnx.relu",
            "not finite after the first step",
        ),
        ("self.head =", "self.top =", "features.. and no head: give it self.head"),
        (
            "nnx.BatchNorm(width, rngs=rngs)",
            "nnx.BatchNorm(width, rngs=rngs); self.k = nnx.Variable(jax.random.key(0))",
            r"its variable k is key<fry>\[\], which is not carried along",
        ),
        (
            "return nnx.relu(self.norm(x, mask=mask))",
            "y = self.norm(x, mask=mask); self.norm.mean.set_value(jnp.zeros(3)); return y",
            r"its variable norm/mean is float32\[8\] before a batch and float32\[3\] after it",
        ),
    ],
)
def test_files_that_cannot_be_used(
    old: str, new: str, message: str, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    assert old in OWN
    with pytest.raises(ConfigError, match=message) as caught:
        check(OWN.replace(old, new), tiny_dataset, tmp_path)
    assert str(caught.value).startswith(f"--model {tmp_path}/net.py:Net: ")
    assert "\n" not in str(caught.value)


@pytest.mark.fault(86)
def test_logits_of_the_wrong_shape(tiny_dataset: Dataset, tmp_path: Path) -> None:
    source = LOGITS.replace("(width, num_classes,", "(width, 7,")
    with pytest.raises(ConfigError, match=r"makes \[16, 7\] of 16 inputs: give logits \[16, 3\]"):
        check(source, tiny_dataset, tmp_path, "uniform")


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_the_models_of_the_docs(number: int, tiny_dataset: Dataset, tmp_path: Path) -> None:
    docs = Path(__file__).parents[2] / "docs" / "models.md"
    blocks = [part.partition("```")[0] for part in docs.read_text().split("```python\n")[1:]]
    check(blocks[number], tiny_dataset, tmp_path)
