"""What is asked of an export, and the same with its names and options found good."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args

from zoo.catalogue.isolation.reading import read
from zoo.catalogue.made.exporter import make_exporter
from zoo.catalogue.options import check, exporter_options, unknown_option
from zoo.contracts.precision import PRECISIONS, row_of
from zoo.contracts.unknown import UnknownBy
from zoo.data.folders import image_files
from zoo.errors import OptionInvalid, UnknownName
from zoo.exporting.limits import Budget

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from zoo.catalogue import Catalogue
    from zoo.catalogue.installed import Plugin
    from zoo.contracts.plugins import Exporter
    from zoo.contracts.target import Target
    from zoo.records.manifest import Pruning, Refusal


@dataclass(frozen=True, kw_only=True)
class ExportSpec:
    """What the user asked of an export."""

    format: str
    precision: str = ""
    """Empty means the target's, if the exporter has it, else the exporter's first."""
    target: str = "host"
    max_drop: float = Budget.max_drop
    confidence: float = Budget.confidence
    """In 0..1, of the bound of the drop."""
    also: tuple[Path, ...] = ()
    """Folders of pictures without labels, which the file must answer as eager fp32 does."""
    stress: bool = False
    """Whether the file is asked corrupted images as well, beside eager fp32."""
    max_stress_drop: float | None = None
    """Points that it may lose there; None means that this is not judged."""
    min_speedup: float | None = None
    """None means the default: 1.0 for int8, not judged otherwise."""
    options: Mapping[str, str] = field(default_factory=dict)
    fallback: bool = True
    """Whether parts may stay in float, or another precision be made, where the one that was asked for is refused."""
    calibrate: bool = False
    """Whether the logits are divided by a temperature, fitted on the validation images."""
    unknown: float | None = None
    """The share of known images that an output `unknown` may hold for unknown; None means no such output."""
    unknown_by: UnknownBy = "energy"
    prune: float = 0.0
    """Share of the channels, in 0..1, that are cut out before."""
    prune_epochs: int = 2
    """Of training afterwards."""
    resize: bool = False
    """Whether the file resizes and crops, and so takes images of any size."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """An export whose names and options were found good."""

    plugin: Plugin
    exporter: Exporter
    precision: str
    target: Target
    budget: Budget
    options: dict[str, Any]
    also: tuple[Path, ...] = ()
    stress: bool = False
    fallback: bool = True
    resize: bool = False
    instead_of: Refusal | None = None
    backbone: torch.nn.Module | None = None
    """What is exported in place of the run's own, such as a pruned one."""
    pruning: Pruning | None = None

    @property
    def name(self) -> str:
        """The format, as the artifact's folder and manifest tell it."""
        return self.plugin.name

    @property
    def folder(self) -> str:
        """What the artifact's folder is called."""
        pruned, resizes = "-pruned" if self.pruning else "", "-resize" if self.resize else ""
        return f"{self.name}-{self.precision}{pruned}{resizes}"

    @property
    def whole(self) -> Job:
        """The same at fp32 for prepared pixels, with nothing cut out: what a file is measured against."""
        return replace(self, precision="fp32", resize=False, backbone=None, pruning=None)


def check_words(catalogue: Catalogue, spec: ExportSpec) -> None:
    """Raise for what is wrong with a spec and can be told without its exporter, which may load PyTorch.

    Raises:
        UnknownName, DuplicateName: no exporter, target or precision has that name.
        OptionInvalid: a number out of its range, or an option that the exporter's source does not have.
    """
    plugin = catalogue.find("exporter", spec.format)
    target = catalogue.target(spec.target)
    if spec.precision and spec.precision not in PRECISIONS:
        raise UnknownName(f"no precision is named {spec.precision!r}; there are {', '.join(PRECISIONS)}")
    if spec.precision and target.precisions and spec.precision not in target.precisions:
        raise UnknownName(f"target {target.name!r} runs {', '.join(target.precisions)}, not {spec.precision}; name one")
    _check_numbers(spec)
    _check_folders(spec)
    found = read(plugin.entry_point)
    for name in map(str, spec.options):
        if found.closed and name not in found.options:
            raise OptionInvalid(unknown_option(f"exporter {spec.format!r}", name, found.options))


def _check_numbers(spec: ExportSpec) -> None:
    if not 0 <= spec.max_drop < math.inf:
        raise OptionInvalid(f"--max-drop {spec.max_drop} must be 0 or more points")
    if not 0.5 <= spec.confidence < 1:
        raise OptionInvalid(f"--confidence {spec.confidence:g} must be 0.5 or more and below 1, such as 0.95")
    if spec.min_speedup is not None and not 0 <= spec.min_speedup < math.inf:
        raise OptionInvalid(f"--min-speedup {spec.min_speedup} must be 0 or more, such as 1.2")
    if spec.unknown_by not in get_args(UnknownBy):
        raise OptionInvalid(f"--unknown-by {spec.unknown_by!r} is none; write {' or '.join(get_args(UnknownBy))}")
    if spec.unknown is not None and not 0 < spec.unknown < 1:
        raise OptionInvalid(f"--unknown {spec.unknown:g} must be a share of the images between 0 and 1, such as 0.05")
    if not 0 <= spec.prune < 1:
        raise OptionInvalid(f"--prune {spec.prune:g} must be a share of the channels, 0 or more and below 1")
    if spec.prune_epochs < 0:
        raise OptionInvalid(f"--prune-epochs {spec.prune_epochs} must be 0 or more")


def _check_folders(spec: ExportSpec) -> None:
    if spec.max_stress_drop is not None and not 0 <= spec.max_stress_drop < math.inf:
        raise OptionInvalid(f"--max-stress-drop {spec.max_stress_drop} must be 0 or more points")
    for folder in spec.also:
        if not folder.is_dir():
            raise OptionInvalid(f"--also {folder} is no folder; name one that holds pictures")
        if not image_files(folder):
            raise OptionInvalid(f"--also {folder} holds no picture; name a folder that does")


def checked(catalogue: Catalogue, spec: ExportSpec) -> Job:
    """Look up what a spec names, before anything runs.

    Raises:
        UnknownName, OptionInvalid: a name, precision or option that there is not, or that does not go with another.
    """
    check_words(catalogue, spec)
    plugin = catalogue.find("exporter", spec.format)
    exporter = make_exporter(catalogue, plugin)
    target = catalogue.target(spec.target)
    usual = target.precision if target.precision in exporter.precisions else exporter.precisions[0]
    precision = spec.precision or usual
    if precision not in exporter.precisions:
        known = ", ".join(exporter.precisions)
        raise UnknownName(f"exporter {spec.format!r} has no precision {precision!r}; it has {known}")
    if spec.unknown is not None and not getattr(exporter, "tells_unknown", False):
        raise OptionInvalid(f"exporter {spec.format!r} cannot write the output `unknown`; leave --unknown out")
    if spec.resize and not getattr(exporter, "resizes_in_graph", False):
        raise OptionInvalid(f"exporter {spec.format!r} cannot resize in the graph; leave --resize-in-graph out")
    declared = exporter_options(exporter)
    given = check(spec.options, declared, f"exporter {spec.format!r}")
    if target.precisions and precision not in target.precisions:
        raise UnknownName(
            f"target {target.name!r} runs {', '.join(target.precisions)}, not {precision}; name one of them"
        )
    # What is slow here may be fast there: speed is judged by default only where the machine may be the target.
    wanted = row_of(precision).usual_speedup or (1.0 if spec.prune else None)
    speedup = wanted if target.is_here else None
    return Job(
        plugin=plugin,
        exporter=exporter,
        precision=precision,
        target=target,
        budget=Budget(
            max_drop=spec.max_drop,
            min_speedup=speedup if spec.min_speedup is None else spec.min_speedup,
            confidence=spec.confidence,
            max_stress_drop=spec.max_stress_drop,
        ),
        also=spec.also,
        stress=spec.stress or spec.max_stress_drop is not None,
        options={name: option.default for name, option in declared.items()} | given,
        fallback=spec.fallback,
        resize=spec.resize,
    )
