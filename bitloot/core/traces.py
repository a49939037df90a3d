"""Traces of OpenTelemetry where OTEL_EXPORTER_OTLP_ENDPOINT is set: one for each request id, from an IPN to the mail.

Elsewhere nothing of it is imported, and a span is only a `yield`. No exception's text is sent, nor any address: they
may hold what must stay here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bitloot.core.logs import current_request, known_facts

Note = Callable[[str, str | int], object]
_tracer: Any = None
_provider: Any = None


def is_installed() -> bool:
    try:
        import opentelemetry.exporter.otlp.proto.http
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError:
        return False
    return True


def start(endpoint: str) -> None:
    """Send the spans of this process to a collector from now on, in batches and from a thread of their own."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    global _provider, _tracer
    _provider = TracerProvider(resource=Resource.create({"service.name": "bitloot"}))
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=5)))
    _tracer = _provider.get_tracer("bitloot")


def stop() -> None:
    """Send what is left, and no more."""
    global _provider, _tracer
    if _provider is not None:
        _provider.shutdown()
    _provider = _tracer = None


@contextmanager
def span(name: str, **attributes: str | int) -> Iterator[Note]:
    """Time the block as a part of the current request's trace; yields what adds an attribute to it."""
    if _tracer is None:
        yield _ignore
        return
    facts = {f"bitloot.{fact}": known_facts()[fact] for fact in ("order", "row") if fact in known_facts()}
    with _tracer.start_as_current_span(
        name, _parent(), attributes={**facts, **attributes}, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current.set_attribute
        except Exception as err:
            current.set_attribute("error.type", type(err).__name__)
            raise


def _ignore(name: str, value: str | int) -> None:
    """Where nobody collects traces."""


def _parent() -> Any:
    """Return the context of a span that stands for the whole request, or None inside of another span."""
    from opentelemetry import trace

    request = current_request()
    if request is None or trace.get_current_span().get_span_context().is_valid:
        return None
    # A request's id is as long as a trace's, and as random.
    sampled = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    whole = trace.SpanContext(request.int, request.int % 2**64 or 1, is_remote=True, trace_flags=sampled)
    return trace.set_span_in_context(trace.NonRecordingSpan(whole))
