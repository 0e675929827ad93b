"""Tiny random-weight checkpoints in the layouts that models are released in."""
