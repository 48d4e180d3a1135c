"""Probes: sklearn-style classifiers that read a concept off a model's activations."""
