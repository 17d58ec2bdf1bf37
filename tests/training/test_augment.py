"""Augmentations: what they do to images, and whose randomness they follow."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_engine import make_run
from test_models import MODELS, one_lane, state_after

from cwjax.config import TrainConfig
from cwjax.data.dataset import Dataset
from cwjax.errors import ConfigError
from cwjax.training.augment import AUGMENTATIONS, check_augmentation, find_augmentation

IMAGES = jnp.asarray(np.random.default_rng(0).integers(1, 256, (64, 9, 7, 3)), jnp.uint8)
KEY = jax.random.key(5)


def test_none_changes_nothing() -> None:
    assert find_augmentation("none")(KEY, IMAGES) is IMAGES


def test_flip_mirrors_about_half_of_the_images_left_to_right() -> None:
    flipped = np.asarray(find_augmentation("flip")(KEY, IMAGES))
    mirrored = np.asarray(IMAGES)[:, :, ::-1]
    is_flipped = (flipped == mirrored).all((1, 2, 3))
    np.testing.assert_array_equal(flipped[~is_flipped], np.asarray(IMAGES)[~is_flipped])
    assert 20 < is_flipped.sum() < 44
    assert flipped.dtype == np.uint8


def test_crop_flip_moves_images_over_black() -> None:
    """Every result is one of the 2 · 9 · 9 that there are; corners are drawn alike."""
    cropped = np.asarray(find_augmentation("crop_flip:padding=4")(KEY, IMAGES))
    found = []
    for image, result in zip(np.asarray(IMAGES), cropped, strict=True):
        padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
        places = [
            (top, left, mirrored)
            for top in range(9)
            for left in range(9)
            for mirrored in (False, True)
            if (padded[top : top + 9, left : left + 7][:, :: -1 if mirrored else 1] == result).all()
        ]
        assert len(places) == 1
        found += places
    tops, lefts, mirrored = map(np.array, zip(*found, strict=True))
    assert set(tops) == set(lefts) == set(range(9))
    assert 20 < mirrored.sum() < 44
    assert abs(np.corrcoef(tops, lefts)[0, 1]) < 0.4


def test_a_slot_draws_the_same_whatever_lies_in_it() -> None:
    """So the arms of a pair share it, sampling arms too."""
    ramp = jnp.broadcast_to(jnp.arange(1, 10, dtype=jnp.uint8)[:, None, None], (64, 9, 7, 3))
    crop_flip = find_augmentation("crop_flip")
    shifts = [np.asarray(crop_flip(KEY, images))[:, 0, 3, 0] for images in (ramp, ramp[::-1])]
    np.testing.assert_array_equal(*shifts)
    assert (shifts[0] != np.asarray(crop_flip(jax.random.key(6), ramp))[:, 0, 3, 0]).any()


def test_training_alone_augments(tiny_dataset: Dataset) -> None:
    config = TrainConfig(num_epochs=2, batch_size=16)
    augmented = dataclasses.replace(config, augment="crop_flip")
    run = make_run(0)
    kernels = [
        np.asarray(
            state_after(run, tiny_dataset, MODELS["linear"], each, 1, one_lane()).params["head"][
                "kernel"
            ][...]
        )
        for each in (config, augmented, augmented)
    ]
    assert (kernels[0] != kernels[1]).any()
    np.testing.assert_array_equal(kernels[1], kernels[2])


def test_mistakes_are_one_line() -> None:
    with pytest.raises(ConfigError, match=r"--augment is 'flop' \(did you mean 'flip'\?\): choose"):
        find_augmentation("flop")
    with pytest.raises(ConfigError, match="padding='0': give an integer from 1 to 100"):
        find_augmentation("crop_flip:padding=0")
    with pytest.raises(ConfigError, match="bank: --augment flip is for images: leave it out for"):
        check_augmentation("flip", (60,), "bank")
    check_augmentation("none", (60,), "bank")
    check_augmentation("flip", (9, 7, 3), "bank")
    assert all(function.__doc__ for function in AUGMENTATIONS.values())
