"""Arms: every standard answer to class imbalance, as rows of arrays.

`arms` reads an arm's text and builds its row, `schemes` and `posthoc` hold one entry a method,
`losses` the one loss that every row goes through, `sampling` the order of the examples. Only
`losses` imports JAX.
"""
