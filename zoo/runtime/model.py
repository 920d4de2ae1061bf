"""A bundle behind a Python class: images in, classes and their probabilities out."""

from __future__ import annotations

import functools
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from .errors import BundleError
from .manifest import read_manifest
from .pixels import decode, prepare
from .providers import CPU
from .session import OnnxPredictor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BATCH = 16
"""Images that go through the network together; more gain nothing on a processor, and take memory."""
Source = Union[str, Path, bytes, np.ndarray]
"""A file, its bytes, or RGB uint8 [H, W, 3]."""


@dataclass(frozen=True)
class Answer:
    """One image's classes and their probabilities, the most probable first."""

    image: str
    top: tuple[tuple[str, float], ...]
    """As many as were asked for."""
    labels: tuple[tuple[str, float], ...] | None = None
    """All that reach their thresholds; None where an image has exactly one label."""
    unknown: bool | None = None
    """Whether the image is like none that the model knows; None where the file does not tell."""

    @classmethod
    def of(
        cls,
        image: str,
        probabilities: np.ndarray,
        unknown: bool | None,
        *,
        classes: Sequence[str],
        thresholds: Sequence[float] | None,
        top: int,
    ) -> Answer:
        """Put probabilities, float32 [C], into words; equal ones keep the order of the classes.

        Args:
            image: What it is called.
            probabilities: Of one image.
            unknown: Whether it is like none that the model knows; None where nobody tells.
            classes: The C names.
            thresholds: Of the C labels, where an image may have several.
            top: How many classes to tell.
        """
        order = (-probabilities).argsort(kind="stable")
        first = order[:top]
        best = tuple(zip([classes[i] for i in first.tolist()], probabilities.take(first).tolist()))
        if thresholds is None:
            return cls(image, best, None, unknown)
        said = (i for i in order.tolist() if probabilities[i] >= thresholds[i])
        return cls(image, best, tuple((classes[i], float(probabilities[i])) for i in said), unknown)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; `labels` only where an image may have several, `unknown` where the file tells it."""
        several = {} if self.labels is None else {"labels": _plain(self.labels)}
        told = {} if self.unknown is None else {"unknown": self.unknown}
        return {"image": self.image, **told, **several, "top": _plain(self.top)}

    def __str__(self) -> str:
        if self.unknown:
            return "unknown"
        said = self.top if self.labels is None else self.labels
        return ", ".join(f"{name} {100 * probability:.2f} %" for name, probability in said) or "none"


def _plain(found: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"class": name, "probability": probability} for name, probability in found]


class Model:
    """The model of a bundle, or of an artifact that zoo exported to ONNX.

    Args:
        path: The bundle's or the artifact's folder. Every file is checked before the model is parsed.
        threads: Of the runtime; 0 for all cores, None for as many as in its proof.
        provider: "cpu", or "cuda" or "tensorrt" where onnxruntime has them; "cuda:1" is the second card.
        open_file: Loads a model file that is no ONNX file, `open_file(file, threads=2)`, and returns what answers
            uint8 [N, H, W, 3] with float32 [N, C], and has `with_unknown` if the file tells it.

    Raises:
        BundleError: a file is missing, changed or damaged, or the model cannot be run.
    """

    def __init__(
        self,
        path: str | Path = ".",
        *,
        threads: int | None = None,
        provider: str = CPU,
        open_file: Callable[..., Any] | None = None,
    ) -> None:
        self.folder = Path(path)
        self.manifest = read_manifest(self.folder)
        self.classes = self.manifest.classes
        file = self.folder / self.manifest.model_file
        self.threads = self.manifest.threads if threads is None else threads
        self.provider = provider
        try:
            opened = open_file or functools.partial(OnnxPredictor, provider=provider)
            self.session = opened(file, threads=self.threads)
        except BundleError:
            raise
        except Exception as exc:  # a runtime has a dozen types of its own
            reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
            raise BundleError(f"{file} does not load: {reason}; see requirements.txt for versions") from exc

    def predict(self, images: Source | Sequence[Source], *, top: int = 5) -> list[Answer]:
        """Classify one image or several; answers come in their order.

        Args:
            images: Files, their bytes, or RGB uint8 [H, W, 3], of any size.
            top: How many classes to tell, where an image has one.

        Raises:
            PixelError: a file that is no complete image.
            BundleError: the model answered what is not a number.
        """
        several = [images] if isinstance(images, (str, Path, bytes, np.ndarray)) else list(images)
        answers: list[Answer] = []
        for start in range(0, len(several), BATCH):
            sources = several[start : start + BATCH]
            pixels = [self.pixels(source) for source in sources]
            for source, *told in zip(sources, *self.ask(pixels)):
                answers.append(self.answer(_name(source), *told, top=top))
        return answers

    def pixels(self, source: Source) -> np.ndarray:
        """Return what the network gets of an image: uint8 [height, width, 3], of the image's size if it resizes."""
        image = (
            source if isinstance(source, np.ndarray) else decode(Path(source) if isinstance(source, str) else source)
        )
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"an image must be RGB uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
        view = self.manifest.view
        return (
            image
            if self.manifest.resizes
            else prepare(image, view.size, view.crop, view.crop_fraction, view.interpolation)
        )

    def ask(self, pixels: Sequence[np.ndarray]) -> tuple[np.ndarray, Sequence[bool | None]]:
        """Run the network: probabilities, float32 [N, C], and for each image whether it is unknown.

        Raises:
            BundleError: an answer is not a number.
        """
        together = len(pixels) > 1 and not self.manifest.resizes
        groups = [np.stack(pixels)] if together else [image[None] for image in pixels]
        unknown: list[bool | None] = [None] * len(pixels)
        if self.manifest.tells_unknown:
            told = [self.session.with_unknown(group) for group in groups]
            probabilities = np.concatenate([answers for answers, _ in told])
            unknown = [bool(one) for _, flags in told for one in flags]
        else:
            answers = [self.session(group) for group in groups]
            probabilities = np.concatenate(answers) if len(answers) > 1 else answers[0]
        # The cheapest of all passes over them: NaN and infinity stay in a sum of squares.
        if not math.isfinite(np.vdot(probabilities, probabilities)):
            raise BundleError(f"{self.folder} gave an answer that is not a number; run its selftest")
        return probabilities, unknown

    def answer(self, image: str, probabilities: np.ndarray, unknown: bool | None, *, top: int) -> Answer:
        """Put probabilities, float32 [C], into words."""
        thresholds = self.manifest.thresholds
        return Answer.of(image, probabilities, unknown, classes=self.classes, thresholds=thresholds, top=top)


def _name(source: Source) -> str:
    return os.fsencode(source).decode(errors="backslashreplace") if isinstance(source, (str, Path)) else ""
