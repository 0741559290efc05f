"""All that is exported: names, labels and buckets. README and the files of `deploy/` rest on them.

Names of OpenTelemetry's conventions for generative AI are used where there is one, in Prometheus' form (`gen_ai_…`), with the
buckets that they ask for: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/. `gen_ai_provider_name` is the
upstream's own. All else is `billing_proxy_…`. A call is counted when its row is in the database, by the process that put it there.
"""

from app.metrics.family import Counter, Family, Gauge, Histogram

_CALL_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_OPERATION = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_TOKENS = tuple(4**power for power in range(14))
_OWN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """One a process."""

    def __init__(self) -> None:
        # calls, as their rows have them
        self.calls = Counter("billing_proxy_calls", "Rows of calls.", ("api", "model", "upstream", "status", "end_reason", "usage_source"))
        self.amended = Counter("billing_proxy_amended_orphans", "Rows of orphaned calls that got their truth late.")
        self.flags = Counter("billing_proxy_flagged_calls", "Calls whose row has a flag.", ("flag",))
        self.duration = Histogram(
            "gen_ai_client_operation_duration_seconds",
            "From a call's arrival to the end of its answer.",
            _OPERATION,
            bounds=_CALL_SECONDS,
        )
        self.first_chunk = Histogram(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            "From a call's arrival to the first piece of its stream.",
            _OPERATION,
            bounds=_CALL_SECONDS,
        )
        self.token_usage = Histogram(
            "gen_ai_client_token_usage",
            "Tokens of a call.",
            (*_OPERATION, "gen_ai_token_type"),
            bounds=_TOKENS,
        )
        self.tokens = Counter(
            "billing_proxy_tokens",
            "Tokens; `input` and `output` hold the other kinds.",
            ("model", "kind", "usage_source"),
        )
        self.overhead = Histogram(
            "billing_proxy_overhead_seconds",
            "What the proxy adds to a call: from its arrival until it goes upstream, and from the answer's end until its row is in.",
            bounds=_OWN_SECONDS,
        )
        self.charges = Counter("billing_proxy_charge", "Exact charges, which bills add up to, in CURRENCY.", ("model",))
        self.write_offs = Counter("billing_proxy_write_off", "Costs that no credit was left for, in CURRENCY.")
        self.refusals = Counter("billing_proxy_refusals", "Calls that were not let through.", ("code", "http_status"))
        self.attempts = Counter("billing_proxy_upstream_attempts", "Attempts, by the answer's status.", ("upstream", "http_status"))

        # the ledger
        self.batch_size = Histogram("billing_proxy_commit_batch_calls", "Calls of one commit.", ("step",), bounds=_BATCH)
        self.commit = Histogram("billing_proxy_commit_seconds", "Time of one commit.", ("step",), bounds=_OWN_SECONDS)
        self.unsettled = Gauge("billing_proxy_unsettled_calls", "Calls that have ended and whose row isn't committed yet.")
        self.unsecured = Counter("billing_proxy_unsecured_calls", "Calls whose last byte left before their row was anywhere but in memory.")
        self.orphans = Counter("billing_proxy_orphans", "Calls of dead processes that were ended as orphaned.")
        self.voided = Counter("billing_proxy_voided_holds", "Holds whose reservation was never answered.")
        self.spool_bytes = Gauge("billing_proxy_spool_bytes", "Size of the spool.")
        self.spool_limit = Gauge("billing_proxy_spool_limit_bytes", "SPOOL_MAX_BYTES, of all workers.")
        self.spool_records = Gauge("billing_proxy_spool_records", "Calls whose outcome is in the spool and in no row yet.")
        self.spool_age = Gauge("billing_proxy_spool_oldest_seconds", "Age of the oldest call in the spool.", across="max")
        self.spool_failing = Gauge("billing_proxy_spool_failing", "1 where the spool is full or can't be written.", across="max")
        self.spool_left = Gauge("billing_proxy_spool_left_segments", "Segments that can't be replayed, or not whole.", across="max")

        # the process, and what it depends on
        self.accepting = Gauge("billing_proxy_accepting_processes", "Processes that take calls.")
        self.loop_lag = Histogram("billing_proxy_event_loop_lag_seconds", "By how much a timer was late.", bounds=_OWN_SECONDS)
        self.pool_size = Gauge("billing_proxy_database_pool_connections", "Connections that a pool may open.", ("pool",))
        self.pool_used = Gauge("billing_proxy_database_pool_used_connections", "Connections in use.", ("pool",))
        self.breaker_open = Gauge("billing_proxy_upstream_breaker_open", "1 where an upstream is passed over.", ("upstream",), across="max")

        # of the database, asked when Prometheus asks
        self.database_up = Gauge("billing_proxy_database_up", "1 where the database answers.", of_one=True)
        self.holds = Gauge("billing_proxy_open_holds", "Calls in flight, of all replicas.", of_one=True)
        self.hold_age = Gauge("billing_proxy_open_holds_oldest_seconds", "Age of the oldest call in flight.", of_one=True)
        self.background = Gauge("billing_proxy_background_calls", "Responses that go on in the background.", of_one=True)
        self.background_age = Gauge("billing_proxy_background_calls_oldest_seconds", "Age of the oldest of them.", of_one=True)

    def families(self) -> list[Family]:
        return [family for family in vars(self).values() if isinstance(family, Family)]
