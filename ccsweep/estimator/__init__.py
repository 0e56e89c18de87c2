"""Activation estimators: low-rank factors that guess which units are positive.

Pure tensor functions; nothing here knows of Lightning or of a network. A new estimator is one file
here, its name in :data:`ESTIMATORS`, and one file in ``conf/estimator/``.
"""

from ccsweep.estimator.learned import Learned
from ccsweep.estimator.lowrank import LowRank
from ccsweep.estimator.random import Random
from ccsweep.estimator.svd import Svd
from ccsweep.estimator.whitened import Whitened, WhitenedCentred

ESTIMATORS: dict[str, LowRank] = {
    "svd": Svd(),
    "whitened": Whitened(),
    "whitened-centred": WhitenedCentred(),
    "learned": Learned(),
    "random": Random(),
}
