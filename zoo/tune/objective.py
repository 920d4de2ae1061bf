"""What trials are judged by: a figure on the validation images, or the exported model's latency or size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from zoo.catalogue.installed import OURS
from zoo.errors import OptionInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from zoo.catalogue import Catalogue
    from zoo.records.run import Run


EXPORTED = {"latency": "ms", "size": "MB"}
"""Objective that the exported fp32 ONNX file is measured for -> its unit; less is better."""
DEFAULT = "val_top1"


@dataclass(frozen=True)
class Objective:
    """One figure, and which way is better."""

    name: str

    @property
    def figure(self) -> str:
        """Its name among a split's figures."""
        return self.name.removeprefix("val_")

    @property
    def exported(self) -> bool:
        """Whether it needs the exported file."""
        return self.name in EXPORTED

    @property
    def maximize(self) -> bool:
        """Whether more is better."""
        return not self.exported and self.figure != "loss"

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """The same, as Optuna says it."""
        return "maximize" if self.maximize else "minimize"


def parse_objectives(names: Sequence[str]) -> tuple[Objective, ...]:
    """Read every `--objective`; `val_top1` if there is none.

    Raises:
        OptionInvalid: a name that is no figure, or one twice.
    """
    wanted = list(names) or [DEFAULT]
    for name in wanted:
        if name not in EXPORTED and not (name.startswith("val_") and name != "val_"):
            known = "val_top1, val_loss, val_map and other figures of the validation images, latency, size"
            raise OptionInvalid(f"--objective {name!r} is unknown; write one of {known}")
        if wanted.count(name) > 1:
            raise OptionInvalid(f"--objective {name} stands there twice; name it once")
    return tuple(Objective(name) for name in wanted)


def figure_of(figures: Mapping[str, object], objective: Objective) -> float:
    """Return the objective's figure among those of the validation images.

    Raises:
        OptionInvalid: these images have no such figure.
    """
    value = figures.get(objective.figure)
    if isinstance(value, bool) or not isinstance(value, int | float):
        known = ", ".join(f"val_{k}" for k, v in figures.items() if isinstance(v, float))
        raise OptionInvalid(f"--objective {objective.name} is no figure of these runs; they have {known}")
    return float(value)


def measure(
    catalogue: Catalogue, run: Run, objectives: Sequence[Objective], note: Callable[[str], None]
) -> tuple[float, ...]:
    """Return a finished run's figures, as the objectives stand: shares of 1, milliseconds (p50, batch 1), megabytes."""
    figures = dict(run.record().metrics["val"])
    exported = _exported(catalogue, run, note) if any(o.exported for o in objectives) else {}
    return tuple(exported[o.name] if o.exported else figure_of(figures, o) for o in objectives)


def _exported(catalogue: Catalogue, run: Run, note: Callable[[str], None]) -> dict[str, float]:
    # A misspelt objective is told without PyTorch, which this brings.
    from zoo.exporting.export import ExportSpec, export_run

    # Whatever its verdict: a search wants the figures, the export of its winner is judged later.
    _, manifest = export_run(catalogue, run, ExportSpec(format=f"{OURS}/onnx", precision="fp32"), note)
    report = manifest.report
    latency = report.latency_ms["artifact"]
    return {"latency": latency.p50 if latency else float("inf"), "size": report.size_bytes / 1e6}
