"""Latency predictors: from a subnet to its latency on one target, with an upper bound."""
