"""The networks, and the layers that make them fast."""
