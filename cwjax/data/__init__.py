"""Images, labels and their imbalance, from any source in one checked form. Imports no JAX."""
