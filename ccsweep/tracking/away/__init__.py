"""A store that is away: a run waits for it, and after that keeps what it logs in its own folder.

python -m ccsweep.tracking.away FOLDER ...      sends what runs in these folders have kept
"""
