"""Samples as one table: the median of the runs, and how far the runs lie apart."""

import os
import platform
import statistics
from collections.abc import Mapping, Sequence

from tools.bench.delivery import Deliveries, Mails
from tools.bench.http import Sample
from tools.bench.lookups import Size

HEADINGS = ("what", "rate /s", "p50 ms", "p99 ms", "CPU s per 1000", "spread of the rate")


def machine() -> str:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} CPUs, {system}, load {load}"


def http_line(name: str, samples: Sequence[Sample]) -> list[str]:
    rates = [sample.rate for sample in samples]
    return [
        name,
        f"{statistics.median(rates):.0f}",
        f"{statistics.median(sample.p50_ms for sample in samples):.1f}",
        f"{statistics.median(sample.p99_ms for sample in samples):.1f}",
        f"{statistics.median(sample.cpu_per_1000 for sample in samples):.2f}",
        _spread(rates),
    ]


def delivery_line(name: str, runs: Sequence[Deliveries]) -> list[str]:
    rates = [run.rate for run in runs]
    worker = statistics.median(run.worker_ms for run in runs)
    return [
        f"{name}; worker {worker:.1f} ms CPU per order",
        f"{statistics.median(rates):.1f}",
        "",
        "",
        f"{statistics.median(run.all_ms for run in runs):.1f}",
        _spread(rates),
    ]


def mail_line(name: str, runs: Sequence[Mails]) -> list[str]:
    p95 = [run.p95 for run in runs]
    p50 = statistics.median(run.p50 for run in runs)
    return [f"{name}: p95 {statistics.median(p95) * 1000:.0f} ms", "", f"{p50 * 1000:.0f}", "", "", _spread(p95)]


def ipn_line(name: str, rates: Sequence[float]) -> list[str]:
    return [name, f"{statistics.median(rates):.0f}", "", "", "", _spread(rates)]


def memory_line(parts: Mapping[str, float]) -> list[str]:
    each = ", ".join(f"{name} {mebibytes:.0f}" for name, mebibytes in parts.items())
    return [f"Idle memory: {sum(parts.values()):.0f} MiB ({each})", "", "", "", "", ""]


def time_line(name: str, microseconds: Sequence[float]) -> list[str]:
    ordered = sorted(microseconds)
    p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
    return [f"{name}: {p50:.0f} µs, p99 {p99:.0f}", "", "", "", "", ""]


def table(lines: Sequence[Sequence[str]]) -> str:
    """Return Markdown that reads well in a terminal, too."""
    rows = [HEADINGS, *lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([texts[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *texts[1:]])


def sizes(found: Sequence[Size]) -> str:
    """Return what lookups and sweeps cost at each size, and the plan of a sweep at the largest."""
    counts = [f"{size.orders:,} orders".replace(",", " ") for size in found]
    lines = [f"{'one lookup, median µs':40}" + "".join(f"{count:>20}" for count in counts)]
    for name in found[0].lookups:
        lines.append(f"{name:40}" + "".join(f"{size.lookups[name]:20.0f}" for size in found))
    for table_name in found[0].sweeps:
        cells = [
            f"{size.sweeps[table_name].milliseconds:.3f} ms, {size.sweeps[table_name].pages} pages" for size in found
        ]
        lines.append(f"{'sweep of ' + table_name:40}" + "".join(f"{cell:>20}" for cell in cells))
    first = next(iter(found[-1].sweeps.values()))
    return "\n".join([*lines, "", f"The plan of a sweep at {counts[-1]}:", first.plan])


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.4g} to {max(values):.4g}"
