"""What is run from the checkout with `python -m`: comparisons, sweeps, reports, the benchmark."""
