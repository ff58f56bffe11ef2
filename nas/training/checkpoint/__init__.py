"""Reading checkpoints of transformers."""
