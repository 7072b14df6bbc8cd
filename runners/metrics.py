"""Holds the Prometheus metrics of a runner, which BentoML serves on /metrics.

Import this module when the model is loaded, not before. A BentoML worker sets the folder in which
its processes share metrics after it has imported the service, and prometheus_client reads it once.
"""

from prometheus_client import Counter, Gauge, Histogram

_STEP_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_PREFILL_BUCKETS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


def _gauge(name: str, what: str, *labels: str) -> Gauge:
    return Gauge(f"chatvlm_{name}", what, ["model", *labels], multiprocess_mode="livesum")


def _counter(name: str, what: str, *labels: str) -> Counter:
    return Counter(f"chatvlm_{name}", what, ["model", *labels])


def _histogram(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
    return Histogram(f"chatvlm_{name}", what, ["model"], buckets=buckets)


_REQUESTS = _gauge("requests", "Requests that the runner has taken and not yet answered")
_ROWS = _gauge("rows_in_flight", "Rows that are being decoded, pages that are being read")
_WAITING = _gauge("rows_waiting", "Rows that wait for their prefill")
_MODEL_BYTES = _gauge(
    "model_bytes", "Bytes of the loaded model, without what it keeps for requests"
)
_KV_BYTES = _gauge("kv_bytes", "Bytes that the KV cache holds")
_REUSE_BYTES = _gauge("reuse_bytes", "Bytes kept between requests", "kept")
_REUSED = _counter(
    "reuse", "Look-ups of what is kept between requests, and evictions", "kept", "what"
)
_STEP = _histogram("step_seconds", "One decode step of all rows", _STEP_BUCKETS)
_PREFILL = _histogram("prefill_seconds", "One prefill, of one or several prompts", _PREFILL_BUCKETS)
_VISION = _histogram(
    "vision_seconds", "The vision tower, over one or several images", _PREFILL_BUCKETS
)
_FIRST_TOKEN = _histogram(
    "first_token_seconds", "From a row's submission to its first token", _PREFILL_BUCKETS
)
_TOKENS = _counter("tokens", "Tokens made")
_ENDED = _counter("rows_ended", "Rows by how they ended", "reason")
_PREEMPTED = _counter("rows_preempted", "Rows that gave their memory back and went on later")


class Metrics:
    """The metrics of one model.

    A row is one request to a vision-language model, see `runners.vlm`; for the reader, a page.
    """

    def __init__(self, model: str) -> None:
        self.requests = _REQUESTS.labels(model)
        self.rows = _ROWS.labels(model)
        self.waiting = _WAITING.labels(model)
        self.model_bytes = _MODEL_BYTES.labels(model)
        self.kv_bytes = _KV_BYTES.labels(model)
        self.step_seconds = _STEP.labels(model)
        self.prefill_seconds = _PREFILL.labels(model)
        self.first_token_seconds = _FIRST_TOKEN.labels(model)
        self.tokens = _TOKENS.labels(model)
        self.vision_seconds = _VISION.labels(model)
        self._model = model
        self._reused: dict[tuple[str, str], int] = {}
        self._preempted = 0

    def reset(self) -> None:
        """Set to zero what depends on a model in memory, as it was unloaded. Counters go on."""
        for gauge in (self.requests, self.rows, self.waiting, self.model_bytes, self.kv_bytes):
            gauge.set(0)
        for kept, _ in self._reused:
            _REUSE_BYTES.labels(self._model, kept).set(0)

    def count_ended(self, reason: str) -> None:
        """Count a row that has ended. reason: a `FinishReason`, "failed" or "cancelled"."""
        _ENDED.labels(self._model, reason).inc()

    def record_preemptions(self, count: int) -> None:
        """Take over the scheduler's count of rows that gave way."""
        _PREEMPTED.labels(self._model).inc(count - self._preempted)
        self._preempted = count

    def record_reuse(self, stats: dict[str, dict[str, int]]) -> None:
        """Take over the model's own counts of what it keeps between requests, `Vlm.reuse_stats`."""
        for kept, counts in stats.items():
            _REUSE_BYTES.labels(self._model, kept).set(counts["bytes"])
            for what, count in counts.items():
                if what != "bytes":
                    new = count - self._reused.get((kept, what), 0)
                    _REUSED.labels(self._model, kept, what).inc(new)
                    self._reused[kept, what] = count
