import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ccsweep.data import load
from ccsweep.data.mnist import read_idx
from ccsweep.errors import UserError

from .conftest import idx
