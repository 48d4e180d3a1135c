"""Steering: vectors that are added to a model's activations while it generates."""
