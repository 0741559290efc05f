"""Counts calls that have ended, by their rows.

What a label says is known to the catalog: other names of models, which clients choose, count as `other`, as do those beyond
`MOST_MODELS`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from app.catalog.routing import EMPTY, Catalog
from app.ledger.ended import Ended, Facts
from app.metrics import Metrics
from app.metrics.family import OTHER, Labels, Series

MOST_MODELS = 200
"""Models of a process that are told apart."""
MOST_KINDS = 5000
_STATUS = {None: "none", 200: "200"}
_PARTS = ("cache_read", "cache_write", "reasoning")
_OPERATIONS = {
    "chat.completions": "chat",
    "responses": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "embedContent": "embeddings",
    "generateContent": "generate_content",
}
"""Of OpenTelemetry's conventions. What they have no name for goes by our own."""


class _Tokens(NamedTuple):
    inputs: Series
    outputs: Series
    input_usage: Series
    output_usage: Series
    charges: Series


class _Kind(NamedTuple):
    """The series of calls that have all labels in common. `tokens` None: they have used none."""

    calls: Series
    operation: Labels
    duration: Series
    tokens: _Tokens | None


class CallCounts:
    def __init__(self, metrics: Metrics, catalog: Catalog) -> None:
        self._metrics = metrics
        self._catalog = catalog
        self._known_by = EMPTY
        self._models: dict[str, str] = {}
        self._kinds: dict[tuple[object, ...], _Kind] = {}

    def __call__(self, told: Sequence[tuple[Ended, Facts]]) -> None:
        if self._known_by is not self._catalog.snapshot:  # names may have changed
            self._known_by = self._catalog.snapshot
            self._kinds.clear()
        for ended, facts in told:
            self._count(ended, facts)

    def _count(self, ended: Ended, facts: Facts) -> None:
        metrics = self._metrics
        model = self._models.get(facts.model_name) or self._model(facts.model_name)
        key = (facts.api, model, facts.upstream_id, facts.status, facts.end_reason, facts.usage_source)
        kind = self._kinds.get(key) or self._kind(key, facts, model)
        kind.calls[0] += ended.is_new
        if not ended.is_new:
            metrics.amended.add()
        if facts.latency_ms is not None:
            metrics.duration.put(facts.latency_ms / 1000, kind.duration)
        if facts.first_token_ms is not None:
            metrics.first_chunk.observe(facts.first_token_ms / 1000, kind.operation)
        if kind.tokens is not None:
            self._count_use(ended, facts, model, kind.tokens)
        carried = ended.outcome.carried
        if carried is not None and carried.admitted_in is not None and ended.committed_at is not None:
            metrics.overhead.observe(carried.admitted_in + ended.committed_at - carried.ended_at)
        for attempt in facts.attempts or ():
            metrics.attempts.add((self._upstream(attempt.upstream_id), _STATUS.get(attempt.status) or str(attempt.status)))
        if facts.flags:
            for flag in facts.flags:
                metrics.flags.add((flag.partition(":")[0],))

    def _count_use(self, ended: Ended, facts: Facts, model: str, tokens: _Tokens) -> None:
        metrics, inputs, outputs = self._metrics, facts.input_tokens or 0, facts.output_tokens or 0
        tokens.inputs[0] += inputs
        tokens.outputs[0] += outputs
        metrics.token_usage.put(inputs, tokens.input_usage)
        metrics.token_usage.put(outputs, tokens.output_usage)
        tokens.charges[0] += float(facts.cost if ended.charge is None else ended.charge)
        if ended.write_off:
            metrics.write_offs.add(amount=float(ended.write_off))
        if facts.cache_read_tokens or facts.cache_write_tokens or facts.reasoning_tokens:
            parts = (facts.cache_read_tokens, facts.cache_write_tokens, facts.reasoning_tokens)
            for name, part in zip(_PARTS, parts, strict=True):
                if part:
                    metrics.tokens.add((model, name, facts.usage_source or ""), part)

    def _model(self, name: str) -> str:
        snapshot = self._catalog.snapshot
        if name not in snapshot.named and name not in snapshot.prices:
            return OTHER
        if len(self._models) >= MOST_MODELS:
            return OTHER
        self._models[name] = name
        return name

    def _upstream(self, upstream_id: int | None) -> str:
        """Its name; none where the call went nowhere."""
        if upstream_id is None:
            return ""
        target = self._catalog.snapshot.targets.get(upstream_id)
        return target.name if target else OTHER

    def _kind(self, key: tuple[object, ...], facts: Facts, model: str) -> _Kind:
        if len(self._kinds) >= MOST_KINDS:
            self._kinds.clear()
        api, upstream, source = facts.api or "", self._upstream(facts.upstream_id), facts.usage_source or ""
        operation = (_OPERATIONS.get(api, api), upstream, model)
        metrics = self._metrics
        kind = self._kinds[key] = _Kind(
            calls=metrics.calls.of((api, model, upstream, facts.status, facts.end_reason or "", source)),
            operation=operation,
            duration=metrics.duration.of(operation),
            tokens=None
            if source in ("", "none")
            else _Tokens(
                inputs=metrics.tokens.of((model, "input", source)),
                outputs=metrics.tokens.of((model, "output", source)),
                input_usage=metrics.token_usage.of((*operation, "input")),
                output_usage=metrics.token_usage.of((*operation, "output")),
                charges=metrics.charges.of((model,)),
            ),
        )
        return kind
