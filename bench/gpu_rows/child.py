"""One row in a process of its own: python -m bench.gpu_rows.child MODULE:FUNCTION FILE FOLDER [rehearsal]."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path

from bench.gpu_rows.report import DONE, FAILED, NOT_RUN, NotRun, Report


def main() -> None:
    call, file, folder, *rest = sys.argv[1:]
    report = Report(Path(file), Path(folder), rehearsal=bool(rest))
    report.write("running")
    module, _, name = call.partition(":")
    try:
        getattr(importlib.import_module(module), name)(report)
    except NotRun as exc:
        report.write(NOT_RUN, str(exc))
    except Exception as exc:  # a row may fail in any way; the next one must get its turn
        traceback.print_exc()
        report.write(FAILED, _told(exc))
        sys.exit(1)
    else:
        report.write(DONE)


def _told(exc: Exception) -> str:
    first = (str(exc).splitlines() or [""])[0][:300]
    # By its name: the fakes of the tests have no torch.
    if type(exc).__name__ == "OutOfMemoryError":
        return f"out of memory: {first}"
    return f"{type(exc).__name__}: {first}"


if __name__ == "__main__":
    main()
