"""Everything that the server can be told, and every limit on requests; its processes get it as JSON in a variable."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

VARIABLE, SOCKET, LIFELINE = "ZOO_SERVE", "ZOO_SERVE_SOCKET", "ZOO_SERVE_LIFELINE"
"""What a process finds in its environment: settings, and two descriptors that it inherits."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is served, where, and how much of everything is allowed."""

    path: str
    """An artifact's folder, an unpacked bundle, or a link to one; looked at again about every second."""
    registry: str | None = None
    """A registry.toml to lay over the built-in one."""
    host: str = "127.0.0.1"
    port: int = 8000
    """0 for one that is free."""
    workers: int = 1
    """Processes that answer, each with the model."""
    threads: int | None = None
    """Of the model's runtime in each of them; 0 for all cores, None for as many as in its proof."""
    provider: str = "cpu"
    """Of onnxruntime: "cuda" and "tensorrt" run an ONNX file on a GPU."""
    decoders: int = 2
    """Threads of each process that decode images."""
    max_batch: int = 16
    """Images that go through the network together; 1 for no batching."""
    max_wait_ms: float = 2.0
    """That an image waits at most for others which are being decoded."""
    queue: int = 256
    """Images that a process has in hand; one more request is told to come again."""
    max_body_bytes: int = 16 * 2**20
    max_held_bytes: int = 256 * 2**20
    """Of all bodies that a process holds, and of all images that it has decoded ahead."""
    max_pixels: int = 24_000_000
    max_images: int = 32
    """Of one request."""
    max_connections: int = 1000
    """To a process."""
    head_seconds: float = 5.0
    """Within which a request's head must be complete."""
    body_seconds: float = 8.0
    """Within which its body must be, and a second more for each `body_rate` bytes that came."""
    body_rate: int = 50_000
    answer_seconds: float = 30.0
    """Within which there must be an answer."""
    drain_seconds: float = 2.0
    """For which new connections are still taken after SIGTERM, so that load balancers see /readyz first."""
    log: str | None = None
    """A .jsonl or .sqlite file that predictions are appended to."""

    def to_environment(self) -> dict[str, str]:
        """Return what a process needs in its environment for `from_environment`."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> Settings:
        """Read what another process wrote."""
        return cls(**json.loads(os.environ[VARIABLE]))
