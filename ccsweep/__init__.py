"""Conditional ReLU networks that skip work, and the sweeps that find the good ones."""
