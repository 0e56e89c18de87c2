"""The tests of the kernels, compiled for other CPUs, with the instructions that these have."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from ccsweep.kernels import simd, vnni

HERE = Path(__file__).parent
FILES = [str(HERE / f"test_{name}.py") for name in ("simd", "float32", "vnni", "int8")]


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="these are x86-64 CPUs")
@pytest.mark.parametrize(
    ("cpu", "fuses", "compresses", "width"),
    [
        ("icelake-server", True, True, 512),
        ("skylake-avx512", True, True, 0),
        ("alderlake", True, False, 256),
        ("haswell", True, False, 0),
        ("generic", False, False, 0),
    ],
)
def test_other_cpus(cpu, fuses, compresses, width):
    if (fuses and not simd.FUSES) or (compresses and not simd.COMPRESSES) or width > vnni.WIDTH:
        pytest.skip("this CPU could not run it")
    program = (
        "import sys, pytest; from ccsweep.kernels import simd, vnni\n"
        f"assert (simd.FUSES, simd.COMPRESSES, vnni.WIDTH) == ({fuses}, {compresses}, {width})\n"
        "sys.exit(pytest.main(['-q', '-n', '0', *sys.argv[1:]]))"
    )
    environment = os.environ | {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run(
        [sys.executable, "-c", program, *FILES],
        cwd=HERE.parents[1],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
