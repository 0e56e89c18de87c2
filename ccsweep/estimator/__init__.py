"""Activation estimators: low-rank factors that guess which units are positive.

Pure tensor functions; nothing here knows of Lightning or of a network.
"""
