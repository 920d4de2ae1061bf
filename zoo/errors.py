"""Every error raised on purpose, each with its exit code: one line that says what, where, and what to do now."""

from typing import Any

EXIT_DONE = 0
EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_PROOF_FAILED = 3
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class ZooError(Exception):
    """The root: anything a user can mend. The command line prints it as one line and exits with `exit_code`."""

    exit_code = EXIT_ERROR


class UnknownName(ZooError):
    """No plugin, model, target or run has that name."""


class DuplicateName(ZooError):
    """Two distributions claim one name."""


class PluginBroken(ZooError):
    """A plugin could not be imported, or raised where it should have answered."""


class ContractBroken(ZooError):
    """A plugin answered with something other than its contract promises."""


class RegistryInvalid(ZooError):
    """A registry.toml that cannot be read, or says something unknown."""


class OptionInvalid(ZooError):
    """An option with an unknown name, a wrong type or a value out of range."""


class DatasetInvalid(ZooError):
    """A dataset that cannot be trained on: missing, empty, one class, too many broken images."""


class ImageUnreadable(ZooError):
    """One image that cannot be decoded, completely and without guessing."""


class WeightsUnavailable(ZooError):
    """Pretrained weights that are neither in the cache nor within reach."""


class LicenseRefused(ZooError):
    """A licence of code, weights or data that the user does not allow."""


class CheckpointInvalid(ZooError):
    """A weights file or checkpoint that is not ours, not whole, or not for this model."""


class TrainingFailed(ZooError):
    """Training cannot go on: the loss is not finite, or memory ran out."""


class RunInvalid(ZooError):
    """A run directory that is missing, unfinished or damaged."""


class ArtifactInvalid(ZooError):
    """An artifact directory that is missing, unfinished, damaged or changed since its proof."""


class ExportUnsupported(ZooError):
    """The exporter cannot express this model in this format or precision."""


class EnvironmentBroken(ZooError):
    """The installation or the machine stands in the way: mismatched packages, a full disk, no permission."""


class ProofFailed(ZooError):
    """An artifact, plugin or dataset did not hold what was asked of it.

    Attributes:
        artifact: What `zoo.export` refused, a `zoo.Artifact` kept to be looked at; else None.
        report: What was measured: the refused artifact's `Report`, or what `zoo.verify` found; else None.
    """

    exit_code = EXIT_PROOF_FAILED
    artifact: Any = None
    report: Any = None


class Interrupted(ZooError):
    """The user or the system asked to stop; the state is saved."""

    exit_code = EXIT_INTERRUPTED


class Terminated(Interrupted):
    """The same, asked for by SIGTERM."""

    exit_code = EXIT_TERMINATED


NO_MEMORY = ("can't allocate memory", "Insufficient memory", "can't start new thread")
"""What PyTorch, OpenCV and Python's threads say where it is no MemoryError."""
CARD_FULL = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""What PyTorch says where CUDA itself or a library of it found the card full: no OutOfMemoryError, which only PyTorch's
own allocator raises."""


def lacks_memory(exc: BaseException) -> bool:
    """Tell whether somebody got no memory, of the machine or of its card."""
    if isinstance(exc, ZooError):
        return False
    return fills_card(exc) or "MemoryError" in _kinds(exc) or any(text in str(exc) for text in NO_MEMORY)


def fills_card(exc: BaseException) -> bool:
    """Tell whether the card has no memory left, so that fewer images at once may do."""
    return "OutOfMemoryError" in _kinds(exc) or any(text in str(exc) for text in CARD_FULL)


def _kinds(exc: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(exc).__mro__}


class Elsewhere(ZooError):
    """Another process of a run failed, and says so itself; this one ends without a word, with the same exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("another process of this run failed")
        self.exit_code = exit_code


def shown(value: object) -> str:
    """Return a value as an error shows it; Python writes no number of over 4,300 digits, as TOML may bring."""
    try:
        return repr(value)
    except ValueError:
        return f"a {type(value).__name__} too long to be written"


def first_line(exc: BaseException) -> str:
    """Return what a foreign exception says, as far as it fits into one line of ours."""
    return next((line.strip().rstrip(".") for line in str(exc).splitlines() if line.strip()), type(exc).__name__)
