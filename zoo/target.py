"""Facts about the device that an artifact is made for."""

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
    memory_mb: int = 0
