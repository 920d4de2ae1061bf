"""What zoo and plugins hold each other to, as types: datasets, augmentations, backbones, exporters, trackers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Union, runtime_checkable

from zoo.contracts import precision

if TYPE_CHECKING:
    import numpy as np
    import torch

    from zoo.contracts.preprocess import Preprocess
    from zoo.contracts.target import Target
    from zoo.contracts.unknown import Unknown

Image = Union[Path, bytes, "np.ndarray"]
"""An image file, an encoded image, or RGB uint8 [H, W, 3]."""

Predictor = Callable[["np.ndarray"], "np.ndarray"]
"""Raw pixels, uint8 [N, H, W, 3] RGB, to probabilities, float32 [N, classes]."""

PRECISIONS = tuple(precision.PRECISIONS)
"""What an exporter may offer: int8 is for the whole network, dynamic finds activations' ranges as it runs, the last two
keep the weights alone in fewer bits."""


def _say_nothing(text: str) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images and their labels, in one order."""

    images: Sequence[Image]
    """Lazy is fine: one image is asked for at a time, from several threads.

    A sequence whose images are far away may have `byte_sizes`, int64 [N], so that none is fetched before training needs
    it, and `name(index)`, which says to a person where one is.
    """
    labels: np.ndarray
    """int64 [N], or uint8 [N, C] in {0, 1} if the dataset is multi-label."""

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What a dataset plugin returns: classes, and at least a "train" split."""

    classes: tuple[str, ...]
    """The index in this tuple is the label; the order is frozen into every run."""
    splits: Mapping[str, Split]
    """"train", and "val" and "test" where the data has them; missing ones are cut from train."""
    multi_label: bool = False
    license: str = ""
    homepage: str = ""
    citation: str = ""


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """A trained model and all that an exporter may want to know about it."""

    model: torch.nn.Module
    """On the CPU, in eval mode: uint8 [N, H, W, 3] to probabilities [N, C], with normalisation and softmax inside."""
    backbone: torch.nn.Module
    """Its core: float32 [N, 3, H, W] to logits [N, C]. An exporter that changes it wraps it with `preprocess.wrap`."""
    preprocess: Preprocess
    classes: tuple[str, ...]
    precision: str
    calibration: Callable[[], Iterator[np.ndarray]]
    """A fresh pass over uint8 [n, H, W, 3] training images, resized as in evaluation."""
    target: Target
    options: Mapping[str, object] = field(default_factory=dict)
    multi_label: bool = False
    unknown: Unknown | None = None
    """If not None, `model` gives a tuple, the probabilities and bool [N]: which images are unknown. So must the file,
    under the name `unknown`, from logits in float. Wrap what you change by `preprocess.wrap(..., unknown=unknown)`."""
    resize: bool = False
    """Whether the file does `preprocess.prepare` itself: its input is then one RGB image of any size, uint8
    [1, H, W, 3]. `model`, `calibration` and `score` have prepared pixels all the same."""
    max_drop: float = 1.0
    """Points of top-1 (exact match if multi-label) that the file may lose: the proof refuses one that loses more."""
    min_speedup: float | None = None
    """Over fp32 of the same format; None where speed is not judged."""
    fallback: bool = True
    """Whether parts may stay in float where the precision costs too much."""
    score: Callable[[Predictor], Score] | None = None
    """Judges a candidate on a fixed part of the validation images; the proof asks others."""
    seed: int = 0
    """The run's: what an exporter draws, it draws from this."""
    workspace: Path | None = None
    """A folder for half-done work: it outlives an export that is killed, and goes with one that ends."""
    note: Callable[[str], None] = _say_nothing
    """Tells the user, in one line, what is being done."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a candidate is worth on the images of `ExportRequest.score`."""

    images: int
    top1: float
    """In 0..1; exact match if multi-label."""
    drop: float
    """Points lost against the reference, eager fp32; negative if it gained."""
    agreement: float
    """The share of images, in 0..1, that get the reference's class."""
    cosine: float
    """Of the logits with the reference's: the median over the images, in -1..1."""
    cosine_p10: float
    """Its 10th percentile."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One candidate of a search for the best file, as a report lists it."""

    name: str
    verdict: str
    """"chosen", or in a few words why not."""
    score: Score | None = None
    """None if it was not judged, or failed."""
    speedup: float | None = None
    """Over fp32 of the same format; None if it was not timed."""
    size_bytes: int | None = None
    seconds: float = 0.0
    """That it took to make and judge."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """What an exporter may tell of its file, for the manifest and the report."""

    notes: tuple[str, ...] = ()
    """One line each: what a user should know, such as a part that stayed in float, and why."""
    attempts: tuple[Attempt, ...] = ()
    """What was tried, in order."""
    layers: Mapping[str, str] = field(default_factory=dict)
    """Layer -> the precision that it runs in, where they differ."""
    session: Mapping[str, str] = field(default_factory=dict)
    """Options that the runtime must set for the file to run as fast as was measured."""


@runtime_checkable
class Exporter(Protocol):
    """A format. The entry point names a class that is made with no arguments.

    A class may also have `export_options() -> Mapping[str, object]`: each `--export-option` with its default. A value
    that a user gives must have the default's type; the request carries all options, given or not. It may have
    `instead: Mapping[str, str]`: precision -> the one that is made in its place where it is refused. With
    `tells_unknown = True` it says that its files can carry `ExportRequest.unknown`; what `open` returns is then a
    `TellsUnknown`. With `resizes_in_graph = True` it says that its files can do what `ExportRequest.resize` asks
    for, and it is a `ResizesInGraph`. It may be a `TellsSaturation`.
    """

    suffix: ClassVar[str]
    """Of the model file, with the dot."""
    precisions: ClassVar[tuple[str, ...]]
    """Among `PRECISIONS`; the first is the default."""

    def export(self, request: ExportRequest, out: Path) -> Made | None:
        """Write `out` (and files beside it, named after it); raise ExportUnsupported where it cannot be done."""

    def open(self, model_file: Path, *, threads: int = 0) -> Predictor:
        """Load a model file in its own runtime; `threads=0` leaves their number to the runtime."""


class TellsUnknown(Protocol):
    """The predictor of a file with the output `unknown`."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Do what every predictor does."""

    def with_unknown(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the probabilities, and which images are unknown, bool [N]."""


class ResizesInGraph(Protocol):
    """What an exporter has besides if its files can resize; those then take images of any one size, as their predictors
    do."""

    def without_resize(self, model_file: Path, preprocess: Preprocess, out: Path) -> None:
        """Write `model_file` again as it is for prepared pixels, so that the cost of the resize can be measured."""


class TellsSaturation(Protocol):
    """What an exporter may have besides: it finds out from a file whether x86 without VNNI answers as others do."""

    def saturates(self, model_file: Path) -> bool | None:
        """Return whether sums of int8 products may pass 16 bits there; None where the file has no such products."""


class BackboneFamily(Protocol):
    """Many backbones behind one entry point (group `zoo.backbone_families`), as timm has them.

    Users write `NAME`, or `FAMILY/NAME` where a name alone could mean another. The module must not import anything
    heavy: `names` and `suggested_pretrained` are called by `zoo list`.
    """

    def names(self) -> Sequence[str]:
        """Return every architecture's name, sorted, without importing the library itself."""

    def knows(self, name: str) -> bool:
        """Tell whether `name` (perhaps with a tag for its weights) is one of the family."""

    def create(
        self,
        name: str,
        num_classes: int,
        *,
        pretrained: bool = True,
        weights: Mapping[str, torch.Tensor] | None = None,
        image_size: int | None = None,
        **options: Any,
    ) -> torch.nn.Module:
        """Return float [N, 3, H, W] to logits [N, num_classes]; its `pretrained_cfg` tells how it likes its pixels.

        Raises:
            WeightsUnavailable: `pretrained` was asked for and the weights are out of reach.
        """


@runtime_checkable
class CropsFirst(Protocol):
    """What an augmentation may have besides: its first step is a crop, and the loader decodes no more than that.

    Calling such an augmentation with the whole image must do the same as the two methods one after the other.
    """

    def choose_crop(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Draw top, left, bottom, right (the last two outside), in pixels, of the part that is wanted of an image."""

    def finish(self, *, image: np.ndarray, out: np.ndarray | None = None) -> Mapping[str, Any]:
        """Do the rest to that part, RGB uint8 [h, w, 3]; return {"image": uint8 [height, width, 3]}.

        A large part comes at a half, a quarter or an eighth of its resolution, never smaller than the result. `out` is
        memory of the result's shape that may be used for it, or for anything on the way.
        """


class Tracker(Protocol):
    """Hears of a run while it trains. The entry point names what makes one: a class, or a function with options.

    A tracker may also have `artifact(folder: Path, report: Mapping[str, object])`: it is called for each artifact that
    passed its proof, between a `start` and an `end` of their own. One that raises is dropped, and the run goes on.
    """

    def start(self, run: Path, config: Mapping[str, object]) -> None:
        """Take note that `run` begins, with its resolved options; or that it goes on, after a stop or for an export."""

    def epoch(self, metrics: Mapping[str, float | int]) -> None:
        """Take one epoch's metrics, the line that metrics.jsonl gets."""

    def end(self, metrics: Mapping[str, object]) -> None:
        """Take the final metrics; called once, also after an interruption (then empty)."""
