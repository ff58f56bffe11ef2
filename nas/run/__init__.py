"""A run: its configuration, folder, texts, target and models."""
