"""Facts about the device that an artifact is made for."""

import platform
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Target:
    """`[targets.NAME]` in registry.toml, as an exporter gets it."""

    name: str = "host"
    description: str = ""
    runtime: str = "onnxruntime"
    arch: str = ""
    threads: int = 1
    opset: int = 18
    ir_version: int = 9
    precision: str = ""
    """What is made for it where the user names none; empty means the exporter's first."""
    precisions: tuple[str, ...] = ()
    """What it can run; empty means anything."""
    activations: str = "uint8"
    """How int8 activations are kept, by what its kernels are fast at: uint8 or int8."""
    reduce_range: bool = False
    """Whether int8 weights get 7 bits, since its sums of products saturate at 16 (x86 before VNNI)."""
    memory_mb: int = 0

    def __post_init__(self) -> None:
        if self.activations not in ("uint8", "int8"):
            raise ValueError(f"activations = {self.activations!r} must be uint8 or int8")

    @property
    def is_here(self) -> bool:
        """Whether this machine may be such a device; then what is measured here counts."""
        return self.arch in ("", platform.machine().lower().replace("amd64", "x86_64").replace("arm64", "aarch64"))
