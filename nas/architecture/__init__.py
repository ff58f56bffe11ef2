"""Subnets, the space that they are of, and what their networks are made of; numpy only."""
