"""``task=doctor``: what a sweep on a cluster needs, tried before a night is lost; a line for each thing.

With ``cluster=slurm`` one small job is run with the parameters of a worker: what a node sees counts, not what
the login node does.
"""

from ccsweep.tasks.doctor.checks import doctor

__all__ = ["doctor"]
