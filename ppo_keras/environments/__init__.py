"""Environments written in TensorFlow, the bridge to Gymnasium, and the collector that acts in them."""
