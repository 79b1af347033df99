"""Checkpoints and encoders of others: in, and back out."""
