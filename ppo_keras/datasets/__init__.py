"""Texts: the bundled data, TensorFlow Datasets and your files, clean, distinct and in three splits."""
