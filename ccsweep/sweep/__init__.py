"""Runs a study: from what ``-m`` asked for to its last trial."""
