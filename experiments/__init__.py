"""What is run from the checkout with `python -m`: the commands of cwjax, and its benchmarks."""
