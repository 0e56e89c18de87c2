"""Hydra's parser of overrides, which knows this project's groups."""

import pytest
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from ccsweep.config.places import root


@pytest.fixture(scope="session")
def parser() -> OverridesParser:
    GlobalHydra.instance().clear()
    hydra = Hydra.create_main_hydra2("ccsweep", create_config_search_path(str(root() / "conf")))
    GlobalHydra.instance().clear()
    return OverridesParser.create(config_loader=hydra.config_loader)
