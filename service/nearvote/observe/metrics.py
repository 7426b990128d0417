"""Metrics for Prometheus. Every label value comes from a bounded set; none comes from a message."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from nearvote.classify import Classification, Classifies, Options, StageTimings
from nearvote.embedding.encoder import Encoder, EncoderSpec, Matrix, Tokens
from nearvote.errors import AccessDenied
from nearvote.observe.store import READS, WRITES
from nearvote.voting.ballot import ClassSizes

_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIMILARITIES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_MARGINS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

# Users make tasks and labels, so their number is bounded here: each triple is a time series.
_MAX_TASK_LABELS = 2_000
_MAX_CHANGES = 1_000
_OTHER = "_other"
# What a change ends with that was made, and what rules count as failed or turned away.
_EXPECTED_CODES = ("OK", "ResourceExhausted", "Internal", "Unknown", "Unavailable", "DataLoss")


class Metrics:
    """All of the service's metrics, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        call = ("grpc_type", "grpc_service", "grpc_method")
        self._started = Counter("grpc_server_started", "Calls that came in.", call, registry=registry)
        self._handled = Counter("grpc_server_handled", "Calls that are done.", (*call, "grpc_code"), registry=registry)
        self._handling = Histogram(
            "grpc_server_handling_seconds", "Time from call to answer.", call, buckets=_SECONDS, registry=registry
        )
        self._denied = Counter(
            "nearvote_denied_calls", "Calls refused for who called, by reason.", ("reason",), registry=registry
        )
        for error in AccessDenied.__subclasses__():
            self._denied.labels(error.reason)
        self._stages = Histogram(
            "nearvote_stage_duration_seconds",
            "Time of a call in each stage on the way of a message.",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._predictions = Counter(
            "nearvote_predictions", "Labels given, by task and label.", ("tenant", "task", "label"), registry=registry
        )
        self._abstentions = Counter(
            "nearvote_abstentions",
            "Predictions without a label, by reason.",
            ("tenant", "task", "reason"),
            registry=registry,
        )
        self._similarity = Histogram(
            "nearvote_top_similarity",
            "Cosine similarity of the nearest example.",
            ("tenant", "task"),
            buckets=_SIMILARITIES,
            registry=registry,
        )
        self._margin = Histogram(
            "nearvote_margin", "Margin of the vote.", ("tenant", "task"), buckets=_MARGINS, registry=registry
        )
        self._examples = Gauge(
            "nearvote_examples", "Examples, by task and label.", ("tenant", "task", "label"), registry=registry
        )
        self._healthy = Gauge(
            "nearvote_component_healthy",
            "Whether what the services stand on is well: 1 or 0.",
            ("component",),
            registry=registry,
        )
        self._policy_versions = Gauge(
            "nearvote_policy_version",
            "Version of a task, which goes up with each change of it, a fit among them.",
            ("tenant", "task"),
            registry=registry,
        )
        self._queue_depth = Gauge(
            "nearvote_encoder_queue_windows", "Windows that wait for the encoder.", registry=registry
        )
        self._queue_tokens = Gauge(
            "nearvote_encoder_queue_tokens", "Tokens of texts that are not embedded yet.", registry=registry
        )
        self._batch_windows = Histogram(
            "nearvote_encoder_batch_windows", "Windows in a batch.", buckets=_BATCHES, registry=registry
        )
        self._batch_tokens = Histogram(
            "nearvote_encoder_batch_padded_tokens",
            "Tokens in a batch, with what fills it up, without the special ones.",
            buckets=_TOKENS,
            registry=registry,
        )
        self._cache_hits = Counter(
            "nearvote_embedding_cache_hits", "Texts whose vectors were known.", registry=registry
        )
        self._cache_misses = Counter(
            "nearvote_embedding_cache_misses", "Texts whose vectors were not known.", registry=registry
        )
        self._cache_bytes = Gauge(
            "nearvote_embedding_cache_bytes", "Memory that known vectors take.", registry=registry
        )
        self._store_errors = Counter(
            "nearvote_store_errors", "Operations of the store that failed.", ("operation",), registry=registry
        )
        for operation in (*READS, *WRITES):
            self._store_errors.labels(operation)  # from 0 on, so that the first failure is an increase
        self._explanations_dropped = Counter(
            "nearvote_explanations_dropped",
            "Answers that can't be explained later: too many waited, or the store failed.",
            registry=registry,
        )
        self._certificate_end = Gauge(
            "nearvote_tls_certificate_not_after_seconds",
            "When the certificate that is shown ends, in seconds since 1970; 0 without TLS.",
            registry=registry,
        )
        self._feedback = Counter(
            "nearvote_feedback",
            "Corrections, by tenant, task and outcome.",
            ("tenant", "task", "outcome"),
            registry=registry,
        )
        self._shadowed = Counter(
            "nearvote_shadow_predictions",
            "Messages that a policy, a fit or an encoder was to be tried on, by outcome.",
            ("tenant", "task", "outcome"),
            registry=registry,
        )
        self._shadow_changes = Counter(
            "nearvote_shadow_changes",
            "Labels or actions that would be others by what is tried.",
            ("tenant", "task", "of", "from", "to"),
            registry=registry,
        )
        self._build = Info("nearvote_build", "What is running.", registry=registry)
        self._of_tasks = (
            self._predictions,
            self._abstentions,
            self._similarity,
            self._margin,
            self._feedback,
            self._shadowed,
            self._shadow_changes,
        )
        self._task_labels: set[tuple[str, str, str]] = set()
        self._missed: set[tuple[str, str]] = set()  # counted, and not told of the last time
        self._counted: set[tuple[str, str, str]] = set()
        self._versioned: set[tuple[str, str]] = set()
        self._changes: set[tuple[str, str, str, str, str]] = set()
        self._stage_by_name = {stage.name: self._stages.labels(stage.name) for stage in fields(StageTimings)}

    def describe(self, version: str, spec: EncoderSpec, store: str) -> None:
        """Says what is running."""
        self._build.info(
            {"version": version, "model": spec.model, "revision": spec.revision, "engine": spec.engine, "store": store}
        )

    def watch_queue(self, depth: Callable[[], int], tokens: Callable[[], int]) -> None:
        """Where to read how many windows wait, and how many tokens there are of requests that are not done."""
        self._queue_depth.set_function(depth)
        self._queue_tokens.set_function(tokens)

    def watch_cache(self, used_bytes: Callable[[], int]) -> None:
        """Where to read how much memory known vectors take."""
        self._cache_bytes.set_function(used_bytes)

    def watch_certificate(self, not_after: Callable[[], float]) -> None:
        """Where to read when the certificate ends."""
        self._certificate_end.set_function(not_after)

    def looked_up(self, hits: int, misses: int) -> None:
        """Texts were looked up among those whose vectors are known."""
        self._cache_hits.inc(hits)
        self._cache_misses.inc(misses)

    def store_failed(self, operation: str) -> None:
        """An operation of the store failed."""
        self._store_errors.labels(operation).inc()

    def expect(self, kind: str, service: str, method: str) -> None:
        """Calls of a method may come: a count that begins with its first call has no growth to show of it."""
        self._started.labels(kind, service, method)
        for code in _EXPECTED_CODES:
            self._handled.labels(kind, service, method, code)

    def started(self, kind: str, service: str, method: str) -> None:
        """A call came in."""
        self._started.labels(kind, service, method).inc()

    def handled(self, kind: str, service: str, method: str, code: str, seconds: float) -> None:
        """A call is done."""
        self._handled.labels(kind, service, method, code).inc()
        self._handling.labels(kind, service, method).observe(seconds)

    def denied(self, reason: str) -> None:
        """A call was refused for who called."""
        self._denied.labels(reason).inc()

    def encoded(self, windows: int, tokens: int) -> None:
        """A batch went through the encoder."""
        self._batch_windows.observe(windows)
        self._batch_tokens.observe(tokens)

    def classified(self, tenant: str, classifications: Sequence[Classification]) -> None:
        """Messages of one call were labelled."""
        timings = classifications[0].timings
        for name, stage in self._stage_by_name.items():
            stage.observe(getattr(timings, name))
        for classification in classifications:
            for prediction in classification.predictions:
                for label in prediction.labels:
                    self._predictions.labels(*self._bounded(tenant, prediction.task, label)).inc()
                if prediction.abstention_reason:
                    names = self._bounded(tenant, prediction.task, "")[:2]
                    self._abstentions.labels(*names, prediction.abstention_reason.value).inc()

    def voted(self, tenant: str, task: str, similarity: float, margin: float) -> None:
        """A vote was counted."""
        tenant, task, _ = self._bounded(tenant, task, "")
        self._similarity.labels(tenant, task).observe(similarity)
        self._margin.labels(tenant, task).observe(margin)

    def explanations_dropped(self, count: int) -> None:
        """Answers were not kept to be explained."""
        self._explanations_dropped.inc(count)

    def feedback(self, tenant: str, task: str, outcome: str, count: int) -> None:
        """Something became of so many corrections."""
        if count:
            names = self._bounded(tenant, task, "")[:2]
            self._feedback.labels(*names, outcome).inc(count)

    def shadowed(self, tenant: str, task: str, outcome: str, count: int) -> None:
        """Something was to be tried on so many messages."""
        names = self._bounded(tenant, task, "")[:2]
        self._shadowed.labels(*names, outcome).inc(count)

    def shadow_changed(self, tenant: str, task: str, of: str, before: str, after: str) -> None:
        """A message would get another label or action, as `of` says, by what is tried."""
        names = (*self._bounded(tenant, task, "")[:2], of, before, after)
        if names not in self._changes and len(self._changes) >= _MAX_CHANGES:
            names = (*names[:3], _OTHER, _OTHER)  # labels go to labels: there may be as many pairs as their square
        self._changes.add(names)
        self._shadow_changes.labels(*names).inc()

    def examples(self, sizes: dict[tuple[str, str], ClassSizes]) -> None:
        """How many examples there are, by tenant and task."""
        counts: dict[tuple[str, str, str], int] = defaultdict(int)
        for (tenant, task), size in sizes.items():
            for label, count in size.by_label.items():
                counts[self._bounded(tenant, task, label)] += count
        for gone in self._counted - counts.keys():
            self._examples.remove(*gone)
        for names, count in counts.items():
            self._examples.labels(*names).set(count)
        self._counted = set(counts)

    def policies(self, versions: dict[tuple[str, str], int]) -> None:
        """Which version each task has, by tenant and task; told of all that there are, from time to time.

        What was counted of a task that is not among them twice in a row goes: it was deleted, or the last key of its
        tenant was.
        """
        self._forget_tasks_but(versions.keys())
        bounded = {self._bounded(*names, "")[:2]: version for names, version in versions.items()}
        for gone in self._versioned - bounded.keys():
            self._policy_versions.remove(*gone)
        for names, version in bounded.items():
            self._policy_versions.labels(*names).set(version)
        self._versioned = set(bounded)

    def _forget_tasks_but(self, there: AbstractSet[tuple[str, str]]) -> None:
        """Lets go of the series of tasks that are gone, which would fill the room for those to come."""
        counted = {names[:2] for names in self._task_labels}
        gone = counted - there
        # One that has just been made may have been counted before it is told of here.
        for tenant, task in gone & self._missed:
            for metric in self._of_tasks:
                metric.remove_by_labels({"tenant": tenant, "task": task})
        self._task_labels = {names for names in self._task_labels if names[:2] not in gone & self._missed}
        self._changes = {names for names in self._changes if names[:2] not in gone & self._missed}
        self._missed = gone - self._missed

    def component(self, name: str, healthy: bool) -> None:  # noqa: FBT001 - what it is told is the health itself
        """How a component was when it was last asked."""
        self._healthy.labels(name).set(healthy)

    def _bounded(self, tenant: str, task: str, label: str) -> tuple[str, str, str]:
        names = (tenant, task, label)
        if names in self._task_labels:
            return names
        if len(self._task_labels) >= _MAX_TASK_LABELS:
            return _OTHER, _OTHER, _OTHER if label else ""
        self._task_labels.add(names)
        return names


class ObservedClassifier:
    """A classifier that is counted."""

    def __init__(self, classifier: Classifies, metrics: Metrics) -> None:
        self._classifier = classifier
        self._metrics = metrics

    async def classify(
        self, tenant: str, texts: Sequence[str], tasks: Sequence[str], options: Options
    ) -> list[Classification]:
        """Labels messages, and counts what came of them."""
        classifications = await self._classifier.classify(tenant, texts, tasks, options)
        self._metrics.classified(tenant, classifications)
        for classification in classifications:
            for prediction in classification.predictions:
                if prediction.top_similarity is not None:
                    self._metrics.voted(tenant, prediction.task, prediction.top_similarity, prediction.margin)
        return classifications


class ObservedEncoder:
    """An encoder whose batches are measured."""

    def __init__(self, encoder: Encoder, metrics: Metrics) -> None:
        self._encoder = encoder
        self._metrics = metrics

    @property
    def spec(self) -> EncoderSpec:
        """The encoder's."""
        return self._encoder.spec

    @property
    def window_tokens(self) -> int:
        """The encoder's."""
        return self._encoder.window_tokens

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """As the encoder does."""
        return self._encoder.tokenize(texts)

    def encode(self, windows: Sequence[Tokens], *, alone: bool = True) -> Matrix:
        """As the encoder does, measured."""
        vectors = self._encoder.encode(windows, alone=alone)
        self._metrics.encoded(len(windows), self.spec.cost(windows))
        return vectors
