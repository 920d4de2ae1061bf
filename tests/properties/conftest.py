"""One profile for all properties: the same examples in every run, none kept on disk, and no look at the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile(
    "zoo",
    deadline=None,
    max_examples=50,
    derandomize=True,
    database=None,
    # It times how long examples take to make, which a busy machine decides.
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("zoo")


# It draws now and then from the constants of every module of ours that is loaded, and asks for them once tests are
# collected: a test alone would see other examples than the same test among others.
pytest.MonkeyPatch().setattr(
    "hypothesis.internal.conjecture.providers.is_local_module_file", lambda _: False, raising=False
)


@pytest.fixture(scope="session", autouse=True)
def no_files_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what hypothesis remembers, such as tables of characters, out of the working tree."""
    set_hypothesis_home_dir(tmp_path_factory.mktemp("hypothesis"))
    yield
    set_hypothesis_home_dir(None)
