"""The random signs of every sign-flip test: one matrix of ±1, the same for all comparisons.

Rows are flips, columns are seeds. Row 0 flips nothing. The first 16 columns of the 65,536 rows
enumerate every pattern; later columns are random bits of a fixed seed, so that a result never
depends on when or where it is computed. A column never changes when columns are added: a look at
10 seeds is the same look whether or not 20 more have been trained since. The matrix is never held
whole: eight columns at a time are made as one byte per row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cwjax.analysis.intervals import FloatArray
from cwjax.errors import ConfigError

LOG2_ROWS = 16
"""Base-2 logarithm of the number of flips."""

MAX_STATISTICS = 2**24
"""Statistics (comparisons × looks × flips) held at a time, 128 MiB: huge families use fewer flips,
which makes the test a little coarser and no less valid."""

MAX_DIFFERENCES = 500_000
"""Comparisons × seeds; 10 to 20 seconds of work. More is refused rather than left for minutes."""

_PHILOX_KEY = 20_231_114

# Bit b of a byte is the sign of column b of eight: 0 is +, 1 is -.
_SIGNS_OF_BYTE = 1.0 - 2.0 * np.unpackbits(
    np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little"
)


@dataclass(frozen=True)
class Flips:
    """The first rows of a matrix of 2^log2_rows rows."""

    num_rows: int
    log2_rows: int = LOG2_ROWS
    """Columns below it enumerate patterns, later ones are random."""

    def sums(self, differences: FloatArray) -> FloatArray:
        """Σ_i ε_i d_i for every flip ε and every comparison.

        Args:
            differences: `[num_comparisons, num_columns]`, 0 where a comparison lacks the seed.

        Returns:
            `[num_comparisons, num_rows]`; column 0 is the sum without flips.

        Raises:
            ConfigError: more than `MAX_DIFFERENCES` differences.
        """
        num_comparisons, num_columns = differences.shape
        if differences.size > MAX_DIFFERENCES:
            raise ConfigError(
                f"{num_comparisons} comparisons of {num_columns} seeds would take minutes to "
                f"judge: give at most {MAX_DIFFERENCES // num_comparisons} seeds"
            )
        sums = np.zeros((num_comparisons, self.num_rows))
        for first in range(0, num_columns, 8):
            part = differences[:, first : first + 8]
            if part.any():
                of_byte = part @ _SIGNS_OF_BYTE[:, : part.shape[1]].T
                sums += np.take(of_byte, self._bytes(first // 8), axis=1)
        return sums

    def signs(self, num_columns: int) -> NDArray[np.int8]:
        """The matrix itself, ±1, `[num_rows, num_columns]`; for tests and small examples."""
        parts = [_SIGNS_OF_BYTE[self._bytes(i)] for i in range(-(-num_columns // 8))]
        return np.concatenate(parts, axis=1)[:, :num_columns].astype(np.int8)

    def _bytes(self, index: int) -> NDArray[np.uint8]:
        """Columns 8·index to 8·index + 7, one byte per row, `[num_rows]`."""
        enumerated = (np.arange(self.num_rows) >> (8 * index) & 255).astype(np.uint8)
        num_enumerated = min(max(self.log2_rows - 8 * index, 0), 8)
        if num_enumerated == 8:
            return enumerated
        generator = np.random.Philox(key=_PHILOX_KEY, counter=[0, index, 0, 0])
        words = generator.random_raw(-(-self.num_rows // 8)).astype("<u8")
        random = words.view(np.uint8)[: self.num_rows] & np.uint8(256 - (1 << num_enumerated))
        random[0] = 0
        return enumerated | random


def flips_for(num_columns: int, num_statistics: int = 1, log2_rows: int = LOG2_ROWS) -> Flips:
    """The rows that a test of so many seeds looks at.

    Args:
        num_columns: seeds, at least 1. Up to `log2_rows` of them half of all patterns suffice, the
            last column unflipped: the others mirror them and give the same absolute sums.
        num_statistics: comparisons × looks; `MAX_STATISTICS` bounds their product with the rows.
        log2_rows: base-2 logarithm of the rows of the whole matrix.
    """
    log2_rows = min(log2_rows, int(math.log2(MAX_STATISTICS / max(num_statistics, 1))))
    used = num_columns - 1 if num_columns <= log2_rows else log2_rows
    return Flips(2**used, log2_rows)
