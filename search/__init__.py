"""Search for the most accurate subnet under a latency budget."""
