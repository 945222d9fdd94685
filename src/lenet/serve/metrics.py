"""Prometheus metrics of one server."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LATENCIES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "lenet_requests", "Requests answered", ["route", "method", "status"], registry=registry
        )
        self._seconds = Histogram(
            "lenet_request_seconds",
            "From a request's headers to the end of its response",
            ["route"],
            buckets=LATENCIES,
            registry=registry,
        )
        self._batch_images = Histogram(
            "lenet_batch_images", "Images in a batch", buckets=BATCHES, registry=registry
        )
        self._engine_seconds = Counter(
            "lenet_engine_seconds", "Time in the engine", registry=registry
        )
        self.refused = Counter(
            "lenet_refused",
            "Requests and connections refused because of a limit",
            ["reason"],
            registry=registry,
        )
        self.log_lines_lost = self.gauge("log_lines_lost", "Lines missing from the access log")
        # Looking up labels costs more than counting.
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def gauge(self, name: str, meaning: str) -> Gauge:
        """Add a gauge."""
        return Gauge(f"lenet_{name}", meaning, registry=self.registry)

    def describe(self, **labels: str) -> None:
        """Set the labels of `lenet_info`: what is served."""
        Gauge("lenet_info", "What is served", [*labels], registry=self.registry).labels(
            **labels
        ).set(1)

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a response."""
        key = route, method, status
        if key not in self._known:
            self._known[key] = (
                self._requests.labels(route, method, str(status)),
                self._seconds.labels(route),
            )
        requests, latencies = self._known[key]
        requests.inc()
        latencies.observe(seconds)

    def count_batch(self, num_images: int, seconds: float) -> None:
        """Count a batch."""
        self._batch_images.observe(num_images)
        self._engine_seconds.inc(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry)
