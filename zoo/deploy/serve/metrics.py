"""What Prometheus is told: sums over all processes, by prometheus-client's multiprocess mode."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The server's counters; each name begins with `zoo_`."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self.requests = Counter("zoo_requests", "Answers of POST /v1/predict", ["status"], registry=own)
        self.seconds = Histogram(
            "zoo_request_seconds", "From a request's body to its answer", buckets=SECONDS, registry=own
        )
        self.images = Counter("zoo_images", "Images that got an answer", registry=own)
        self.batches = Histogram(
            "zoo_batch_images", "Images that went through the network together", buckets=IMAGES, registry=own
        )
        self.network = Histogram("zoo_network_seconds", "Of a batch in the network", buckets=SECONDS, registry=own)
        self.in_hand = Gauge(
            "zoo_in_hand_images", "Images without an answer yet", multiprocess_mode="livesum", registry=own
        )
        self.gone = Counter("zoo_gone_images", "Images whose client had gone before the network's turn", registry=own)
        self.cut = Counter("zoo_cut_connections", "Connections that broke a limit", ["limit"], registry=own)
        self.swaps = Counter("zoo_swaps", "New models at the served path", ["outcome"], registry=own)
        self.logged = Counter("zoo_log_entries", "Entries for the log of predictions", ["outcome"], registry=own)
        self.model = Gauge(
            "zoo_model_workers", "Processes that answer with this model", ["sha256"], multiprocess_mode="livesum",
            registry=own,
        )  # fmt: skip
        self.ready = Gauge("zoo_ready_workers", "Processes that are ready", multiprocess_mode="livesum", registry=own)

    def text(self) -> bytes:
        """Return the exposition format."""
        if FOLDER not in os.environ:
            return generate_latest(self._registry)
        every = CollectorRegistry()
        MultiProcessCollector(every)  # type: ignore[no-untyped-call]
        return generate_latest(every)
