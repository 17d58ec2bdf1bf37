"""Training on devices: the network, its fast layers, the training step and the engine."""
