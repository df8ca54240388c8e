"""Settings -> metrics and tracer. Their libraries are imported here, where they are asked for."""

from __future__ import annotations

from collections.abc import Collection

from ..settings_tables.observability import ObservabilitySettings
from .metrics import Metrics
from .tracing import SilentTracer, Tracer


def make_metrics(
    settings: ObservabilitySettings, *, models: Collection[str], policies: Collection[str] = ()
) -> Metrics:
    """models, policies: the names that become labels, such as the pool's and `xrouter:<preset>`; any other is "other"."""
    if not settings.metrics:
        return Metrics()
    from .prometheus import PrometheusMetrics

    return PrometheusMetrics(models=models, policies=policies)


def make_tracer(settings: ObservabilitySettings) -> Tracer:
    """Raises ConfigurationError where tracing is asked for and OpenTelemetry is not installed."""
    if not settings.tracing:
        return SilentTracer()
    from .otel import OtelTracer

    return OtelTracer()
