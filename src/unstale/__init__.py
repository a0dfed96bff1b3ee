"""Train neural networks asynchronously without losing accuracy."""
