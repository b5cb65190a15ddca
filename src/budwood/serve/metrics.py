"""Prometheus figures of one server, in a registry of its own (two servers in one process do not mix)."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Labels hold the release as name@version-digest, never a prompt, a user or a request id."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "budwood_requests_total", "HTTP requests answered", ["endpoint", "status"], registry=self.registry
        )
        self.answers = Counter(
            "budwood_answers_total",
            "Choices by release and reason of their end",
            ["release", "finish"],
            registry=self.registry,
        )
        self.prompt_tokens = Counter("budwood_prompt_tokens_total", "Tokens of prompts", ["release"], registry=self.registry)
        self.new_tokens = Counter("budwood_new_tokens_total", "Tokens generated", ["release"], registry=self.registry)
        self.in_flight = Gauge("budwood_choices_in_flight", "Choices waiting or being generated", registry=self.registry)
        self.engine_requests = Gauge(
            "budwood_engine_requests", "Requests waiting or running in the engines", registry=self.registry
        )
        self.engine_tokens = Gauge(
            "budwood_engine_tokens", "Tokens made by the engines now loaded, also for clients that went", registry=self.registry
        )
        self.refused = Counter("budwood_refused_total", "Requests answered 429", registry=self.registry)
        self.rate_limited = Counter(
            "budwood_rate_limited_total", "Requests over a caller's limit", ["limit"], registry=self.registry
        )
        self.turned_away = Counter(
            "budwood_turned_away_total", "Requests without a right to come in", ["status"], registry=self.registry
        )
        self.slow_readers = Counter(
            "budwood_slow_readers_total", "Clients that were cut off since they read nothing", registry=self.registry
        )
        self.overdue = Counter("budwood_overdue_total", "Answers cut at the deadline", ["release"], registry=self.registry)
        self.streams = Gauge("budwood_streams", "Answers being streamed", registry=self.registry)
        self.first_token = Histogram(
            "budwood_first_token_seconds",
            "From the request's arrival to its first token",
            ["release"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.duration = Histogram(
            "budwood_request_seconds",
            "From the request's arrival to its last token",
            ["release"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.loaded = Gauge("budwood_releases_loaded", "Releases in memory, warm ones included", registry=self.registry)
        self.evictions = Counter("budwood_releases_unloaded_total", "Releases taken out of memory", registry=self.registry)
        self.demand_loads = Counter(
            "budwood_demand_loads_total", "Releases loaded because a request named them", ["result"], registry=self.registry
        )
        self.adapter_bytes = Gauge("budwood_adapter_bytes", "Memory of the loaded adapters", registry=self.registry)
        self.prefix_asked = Gauge(
            "budwood_prefix_prompt_tokens", "Prompt tokens looked up among kept beginnings", registry=self.registry
        )
        self.prefix_found = Gauge(
            "budwood_prefix_found_tokens", "Prompt tokens that were found there and not read again", registry=self.registry
        )
        self.prefix_bytes = Gauge("budwood_prefix_bytes", "Memory of kept beginnings of prompts", registry=self.registry)
        self.flips = Counter("budwood_alias_flips_total", "Aliases pointed to another release", registry=self.registry)
        self.dropped = Counter(
            "budwood_feedback_dropped_total",
            "Requests that were not counted, sampled or copied to a shadow, by reason",
            ["reason"],
            registry=self.registry,
        )
        self.sampled = Counter(
            "budwood_feedback_sampled_total", "Requests written into files, by kind", ["kind"], registry=self.registry
        )
        self.stale = Gauge(
            "budwood_verdict_stale",
            "1: production has left behind what this release was judged on",
            ["release"],
            registry=self.registry,
        )
        self.load_failures = Counter(
            "budwood_release_failures_total",
            "Releases that could not be loaded or failed their probes",
            registry=self.registry,
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)
