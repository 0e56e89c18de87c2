from pathlib import Path

import optuna
import pytest

from tests.report.study import studies


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    """See :func:`tests.report.study.studies.typical`."""
    return studies.typical(tmp_path / "outputs" / "sweeps" / "digits_pareto")
