"""Activations as transformers spells them."""

from __future__ import annotations

# Ours by transformers' names.
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
# The other way round, where the names differ.
SPELLED_ACTIVATIONS = {"gelu_tanh": "gelu_new"}
