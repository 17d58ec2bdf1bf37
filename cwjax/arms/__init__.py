"""Arms: every standard answer to class imbalance, as rows of arrays.

`arms` reads an arm's text and builds its row; `schemes` and `posthoc` hold one entry a method, and
`registry` says what an entry is; `losses` is the one loss that every row goes through, `sampling`
the order of the examples. Only `losses` imports JAX.
"""
