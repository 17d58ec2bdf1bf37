"""Sweeps: many cells (data set × imbalance), each an experiment directory, judged as one family."""
