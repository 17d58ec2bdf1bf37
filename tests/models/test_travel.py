"""A model of the user's own where its file is not."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from cwjax.models import travel
from cwjax.models.registry import MODELS, model_factory, register_model
from cwjax.training import chunk

TOY = Path(__file__).parents[1] / "toys" / "keeping.py"


class Tiny(nnx.Module):
    """Defined by a program."""

    def __init__(self, num_classes: int, rngs: nnx.Rngs) -> None:
        self.head = nnx.Linear(4, num_classes, rngs=rngs)

    def features(self, inputs: jax.Array) -> jax.Array:
        return inputs


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(chunk, "CHECKPOINT_SECONDS", chunk.CHECKPOINT_SECONDS)  # the toy sets it
    known = dict(MODELS)
    yield
    MODELS.clear()
    MODELS.update(known)


def kernel(name: str) -> np.ndarray:
    model = model_factory(name, (4,), 3)(nnx.Rngs(0))
    assert model.features(np.zeros((2, 4), np.float32)).shape == (2, 4)
    return np.asarray(model.head.kernel[...])


def test_the_file_is_not_needed_where_it_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "gone.py"
    shutil.copy(TOY, file)
    expected = kernel(f"{file}:Keeping")
    packed = travel.pack_model(f"{file}:Keeping")
    assert packed is not None
    file.unlink()
    monkeypatch.delitem(sys.modules, "models_of_gone")
    np.testing.assert_array_equal(kernel(travel.unpack_model(packed)), expected)


def test_a_class_of_a_program_travels_too() -> None:
    name = register_model(Tiny)
    packed = travel.pack_model(name)
    assert packed is not None
    np.testing.assert_array_equal(kernel(travel.unpack_model(packed)), kernel(name))


def test_models_of_cwjax_stay_where_they_are() -> None:
    assert travel.pack_model("mlp:hidden=8") is None
