"""Checkpoints that others pretrained: where they come from, and how their weights, tokenizers and settings are read."""
