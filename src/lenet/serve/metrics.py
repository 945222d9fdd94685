"""What is counted, in Prometheus's terms."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from lenet import __version__

LATENCIES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The counters of one server, apart from those of any other in the process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "lenet_requests",
            "Requests answered",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "lenet_request_seconds",
            "From a request's headers to the end of its answer",
            ["route"],
            buckets=LATENCIES,
            registry=self.registry,
        )
        self.batch_images = Histogram(
            "lenet_batch_images",
            "Images the engine took at a time",
            buckets=BATCHES,
            registry=self.registry,
        )
        self.batch_seconds = Counter(
            "lenet_engine_seconds", "Time in the engine", registry=self.registry
        )
        self.refused = Counter(
            "lenet_refused",
            "Requests and connections refused to keep the server responsive",
            ["reason"],
            registry=self.registry,
        )
        self.log_lines_lost = self._gauge("log_lines_lost", "Lines the access log left out")
        self.in_work = self._gauge("requests_in_work", "Requests in work")
        self.images_waiting = self._gauge("images_waiting", "Images that wait for the engine")
        self.pictures_waiting = self._gauge("pictures_waiting", "Pictures that wait for a worker")
        self.workers_ended = self._gauge(
            "workers_ended", "Workers that crashed or took too long, and were replaced"
        )
        self._info = Gauge(
            "lenet_info", "What is served", ["version", "model", "engine"], registry=self.registry
        )
        # Looking up labels costs more than counting.
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(f"lenet_{name}", meaning, registry=self.registry)

    def describe(self, model: str, engine: str) -> None:
        """Say what is served."""
        self._info.labels(__version__, model, engine).set(1)

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer."""
        key = route, method, status
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = (
                self._requests.labels(route, method, str(status)),
                self._seconds.labels(route),
            )
        known[0].inc()
        known[1].observe(seconds)

    def count_batch(self, num_images: int, seconds: float) -> None:
        """Count a batch."""
        self.batch_images.observe(num_images)
        self.batch_seconds.inc(seconds)

    def text(self) -> bytes:
        """Return all in the text format."""
        return generate_latest(self.registry)
