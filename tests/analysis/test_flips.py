"""The matrix of signs: enumeration, repeatability, and bounded work."""

import itertools

import numpy as np
import pytest

from cwjax.analysis import flips
from cwjax.analysis.flips import Flips, flips_for
from cwjax.errors import ConfigError


@pytest.mark.parametrize("n", [1, 2, 6, 9, 16])
def test_few_seeds_are_enumerated_up_to_mirroring(n):
    signs = flips_for(n).signs(n)
    assert signs.shape == (2 ** (n - 1), n)
    assert (signs[0] == 1).all()
    both = {tuple(row) for row in np.concatenate([signs, -signs]).tolist()}
    assert len(both) == 2**n
    if n < 10:
        assert both == set(itertools.product((1, -1), repeat=n))


def test_many_seeds_are_enumerated_in_the_first_columns_and_random_in_the_others():
    signs = flips_for(40).signs(40)
    assert signs.shape == (65_536, 40)
    assert (signs[0] == 1).all()
    assert np.unique(signs[:, :16] @ 2 ** np.arange(16)).size == 65_536
    later = signs[:, 16:].astype(np.float64)
    products = later.T @ later / 65_536 - np.eye(24)  # means of products: 0 if independent
    assert np.abs(products).max() < 5 / 256
    assert np.abs(later.mean(axis=0)).max() < 5 / 256
    assert np.abs(signs[:, :16].T @ later / 65_536).max() < 5 / 256


def test_a_column_does_not_change_when_others_are_added():
    few, many = flips_for(17), flips_for(300)
    np.testing.assert_array_equal(few.signs(17), many.signs(300)[:, :17])
    # Fewer rows, as up to 16 seeds have, are the same rows.
    np.testing.assert_array_equal(flips_for(12).signs(12), many.signs(300)[: 2**11, :12])


@pytest.mark.parametrize("log2_rows", [5, 8, 11, 16])
@pytest.mark.parametrize("n", [3, 8, 13, 21])
def test_sums_are_the_product_with_the_signs(n, log2_rows):
    matrix = flips_for(n, log2_rows=log2_rows)
    differences = np.random.default_rng(n).normal(size=(3, n))
    differences[1, : n // 2] = 0  # a comparison without the first seeds
    expected = differences @ matrix.signs(n).T
    np.testing.assert_allclose(matrix.sums(differences), expected, rtol=0, atol=1e-12)


def test_huge_families_use_fewer_flips():
    assert flips_for(30, num_statistics=256).num_rows == 65_536
    assert flips_for(30, num_statistics=1000).num_rows * 1000 <= flips.MAX_STATISTICS
    assert flips_for(30, num_statistics=1000).log2_rows == 14


def test_too_many_seeds_are_refused_before_any_work():
    with pytest.raises(ConfigError, match="give at most 27777 seeds"):
        Flips(65_536).sums(np.broadcast_to(1.0, (18, 500_000)))
