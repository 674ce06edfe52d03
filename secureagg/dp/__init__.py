"""Differential privacy and what comes before it: clipping and quantising."""
