"""Where zoo keeps what it downloads and remembers: `$ZOO_HOME`, else the platform's cache folder."""

from __future__ import annotations

import os
from pathlib import Path


def zoo_home() -> Path:
    """Return the folder; it need not exist yet."""
    given = os.environ.get("ZOO_HOME")
    if given:
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("zoo"))


def runs_root(given: str | Path | None) -> Path:
    """Return the folder of all runs: `--runs DIR`, else `$ZOO_RUNS`, else `./runs`."""
    return Path(given or os.environ.get("ZOO_RUNS") or "runs")
