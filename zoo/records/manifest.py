"""`artifact.json`: what is known of a model file, its proof and its making."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from zoo.contracts.unknown import UnknownBy

SCHEMA = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, allow_inf_nan=False)


class Tensor(_Frozen):
    """An input or output of the model file; null stands for a free axis."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class Latency(_Frozen):
    """Milliseconds for one image."""

    p50: float
    p95: float


class ClassChange(_Frozen):
    """One class before and after: the share of its images in which it is recognised, in 0..1."""

    images: int
    """Those that have it."""
    reference_top1: float
    artifact_top1: float


class Agreement(_Frozen):
    """How far two sets of probabilities are apart."""

    flips: int
    max_probability_difference: float


class Elsewhere(Agreement):
    """How far a file is apart from itself where its numbers are rounded otherwise."""

    images: int
    """Of the split, that were asked both ways."""


class Fidelity(_Frozen):
    """How close two sets of logits are, image by image."""

    cosine: float
    """The median over the images."""
    cosine_p10: float
    """The 10th percentile: one image in ten is further off."""
    logit_difference: float
    """The median of each image's largest difference, as a share of the logits' usual size."""


class Selection(_Frozen):
    """How a file does on the images that it was chosen by: beside the proof's figures, what the choice flatters."""

    split: str
    images: int
    reference_top1: float
    artifact_top1: float
    drop: float
    """In points."""


class Agreed(_Frozen):
    """Answers beside those of eager fp32, on images whose labels nobody needs to know."""

    images: int
    changed: int
    """Those that get another class, or another set of labels."""
    bound: float
    """Upper end of the exact one-sided interval of the share that changes, in points, at the report's confidence."""


class Stressed(_Frozen):
    """Eager fp32 and the file on images corrupted in one way: a number for each strength, the weakest first."""

    images: int
    """That each strength was shown on."""
    reference_top1: tuple[float, ...]
    """In 0..1; exact match where an image may have several labels."""
    artifact_top1: tuple[float, ...]
    flips: tuple[int, ...]
    """Images whose answers differ."""


class ResizeCost(_Frozen):
    """What resizing inside the file takes, for the proof's image of the median size."""

    height: int
    width: int
    """Of that image, in pixels."""
    milliseconds: float
    """What it adds, undisturbed: the difference of the 10th percentiles; in a slow network it may drown in noise."""
    file: Latency
    """From the image to the answer."""
    prepared: Latency
    """The same network, given prepared pixels."""
    pillow: Latency
    """Preparing them outside."""


class Report(_Frozen):
    """What the proof found. Top-1 lies in 0..1; drops are in points, a hundredth of the images each.

    Where an image may have several labels, top-1 means exact match: all of them right at the run's thresholds.
    """

    accepted: bool
    reasons: tuple[str, ...]
    """Why it was refused; empty if accepted."""
    verdict: str = ""
    """One of `zoo.contracts.verdict`; empty in an older artifact."""
    split: str
    """The images of the proof; they have chosen nothing of the file ("val" in an older artifact, where they had)."""
    images: int
    reference_top1: float
    artifact_top1: float
    drop: float
    """Points that the artifact lost against the reference (eager fp32); negative if it gained."""
    drop_interval: tuple[float, float]
    """95 % confidence interval of the drop, in points."""
    bound: float | None = None
    """Upper end of the exact one-sided interval of the drop, in points; None in an older artifact."""
    confidence: float = 0.95
    """Of `bound`, in 0..1."""
    images_needed: int | None = None
    """How many images, no further one of them changed, would bound the drop by `max_drop`; None if no number would, or
    too much is lost of these already."""
    selection: Selection | None = None
    agreement: dict[str, Agreed] = {}
    """What was asked -> how many answers changed: splits that the run was not trained on, folders of `--also`."""
    flips: int
    """Images whose most probable class changed, or whose set of labels."""
    max_probability_difference: float
    fidelity: Fidelity | None = None
    """Against the reference, of the logits behind the probabilities."""
    reference_ece: float | None = None
    """Expected calibration error in 0..1, 15 bins of equal width: `expected_calibration_error`."""
    artifact_ece: float | None = None
    reference_unknown: float | None = None
    """The share of the images, all of known classes, that are called unknown; only where the file tells it."""
    artifact_unknown: float | None = None
    unknown_flips: int | None = None
    """Images that are unknown to only one of the two."""
    control: Agreement | None = None
    """The reference against itself after the least change of its input that fp32 can hold, on the golden images."""
    elsewhere: Elsewhere | None = None
    """The file against itself, asked one by one and with no operators fused, which rounds otherwise, as other kinds of
    processors do; int8 in onnxruntime only."""
    saturates: bool | None = None
    """Whether sums of int8 products may saturate on x86 without VNNI, where a runtime then has to be told to compute
    exactly (`session` says how); found from the file. None where there are no such products, or nobody can tell."""
    stress: dict[str, Stressed] = {}
    """Corruption -> what it does to both; only where that was asked for."""
    stress_drop: float | None = None
    """Points lost against eager fp32, over all corruptions and strengths alike."""
    max_stress_drop: float | None = None
    """The budget for these; None means that they are shown and not judged."""
    reference_map: float | None = None
    """Mean average precision in 0..1; only where an image may have several labels."""
    artifact_map: float | None = None
    map_drop: float | None = None
    """Points of it that the artifact lost; judged against the same budget as `drop`."""
    against_onnxruntime_fp32: Agreement | None = None
    """For formats that do not run in onnxruntime: the artifact beside the fp32 ONNX file."""
    batches: dict[str, float] = {}
    """Batch size -> largest probability difference from the pass over the whole split."""
    per_class: dict[str, ClassChange]
    size_bytes: int
    fp32_size_bytes: int | None = None
    latency_ms: dict[str, Latency | None] = {}
    """From prepared pixels on; `resize` tells what comes before that in a file that resizes."""
    resize: ResizeCost | None = None
    speedup: float | None = None
    """Over fp32 of the same format in the same runtime, measured in turn: the ratio of the 10th percentiles."""
    threads: int = 0
    max_drop: float
    """The budget, in points."""
    min_speedup: float | None
    machine: dict[str, Any] = {}
    on_target: bool = True
    """Whether this machine may stand for the target; if not, latency is to be measured again on the device."""


class Temperature(_Frozen):
    """Temperature scaling (Guo et al., 2017): the file's logits are the backbone's divided by `value`."""

    value: float
    split: str
    """The images that it was fitted on; the other splits tell how well it holds."""
    ece_before: dict[str, float]
    """Split -> expected calibration error, in 0..1, of eager fp32 without it."""
    ece_after: dict[str, float]
    """The same with it."""


class UnknownOutput(_Frozen):
    """The output `unknown`, bool [N]: true where an image's score lies below the threshold."""

    by: UnknownBy
    """As `zoo.contracts.unknown.Unknown` says."""
    threshold: float
    rate: float
    """The share of known images, in 0..1, that was allowed to be called unknown."""
    split: str
    """The images that the threshold was chosen on."""
    known_called_unknown: dict[str, float]
    """Split -> the share that eager fp32 calls unknown."""


class Pruning(_Frozen):
    """Channels that were cut out of the network before it was exported; the reference has them all."""

    share: float
    """Of the channels of each layer, in 0..1, that was asked for."""
    epochs: int
    """Of training afterwards."""
    parameters_before: int
    parameters: int
    macs_before: int
    """Multiplications for one image."""
    macs: int


class Refusal(_Frozen):
    """A precision that was asked for and refused; what the artifact is was made in its place."""

    precision: str
    reasons: tuple[str, ...]
    made: dict[str, Any] = {}
    """As in the manifest."""


class Measured(_Frozen):
    """What `zoo_runtime bench` found on a device: milliseconds for one image, unless told otherwise."""

    p50: float
    p95: float
    p99: float
    images_per_second: float
    cold_start: float
    """From starting Python to the first answer."""
    peak_memory_mb: float | None = None
    rounds: int
    threads: int
    provider: str = "cpu"
    """Of onnxruntime: what ran the network."""
    machine: dict[str, Any]
    date: str
    selftest: dict[str, Any] = {}
    """As `zoo_runtime selftest` prints it."""


class Manifest(_Frozen):
    """`artifact.json`."""

    schema_version: int = Field(SCHEMA, alias="schema")
    format: str
    precision: str
    target: str
    input: Tensor
    output: Tensor
    classes: tuple[str, ...]
    multi_label: bool = False
    thresholds: dict[str, float] = {}
    """Label -> the probability from which on it is said, as the run tuned it; only if multi-label."""
    preprocess: dict[str, Any]
    resize_in_graph: bool = False
    """Whether the file does that itself; it then takes one image at a time, as large as it is."""
    files: dict[str, str]
    """Name -> SHA-256 of every file but the manifest itself."""
    model_file: str
    options: dict[str, Any] = {}
    made: dict[str, Any] = {}
    """What the exporter told of the file: `notes`, `attempts` (what its search tried), `layers`, `session`."""
    temperature: Temperature | None = None
    """None where the logits are as they were trained."""
    unknown: UnknownOutput | None = None
    """None where the file has no such output."""
    pruning: Pruning | None = None
    """None where the network is whole."""
    instead_of: Refusal | None = None
    session: dict[str, str] = {}
    """Options that a runtime must set for the file to run as fast as was measured; `session.x64quantprecision` where
    x86 without VNNI would answer otherwise; zoo's own sets them by itself."""
    lineage: dict[str, Any]
    licenses: dict[str, str]
    report: Report
    measured: tuple[Measured, ...] = ()
    """What devices found, the newest last."""
