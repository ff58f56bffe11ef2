"""Supernets and their training: all that knows torch."""
