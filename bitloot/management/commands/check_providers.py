import json
import time
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from bitloot.core.money import plain
from bitloot.core.providers import ProviderError
from bitloot.management.operator import OperatorCommand
from fulfillment import balance, kinguin
from fulfillment.models import SupplierGate
from payments.models import Coin
from payments.nowpayments import NowPaymentsClient
from storage import probe
from storage.objects import key_store


@dataclass
class Finding:
    provider: str
    host: str = ""
    reachable: bool = False
    latency_ms: int | None = None
    balance: Decimal | None = None
    gate: str = ""
    coins_at_provider: int | None = None
    coins_on_offer: int | None = None


class Command(OperatorCommand):
    help = "Ask the providers and the object store a harmless question."
    has_json = True

    def handle(self, **options: Any) -> None:
        problems: list[str] = []
        findings = [check_nowpayments(problems), check_kinguin(problems), *check_r2(problems)]
        if options["json"]:
            document = {
                "ok": not problems,
                "providers": {finding.provider: asdict(finding) for finding in findings},
                "problems": problems,
            }
            self.stdout.write(json.dumps(document, indent=2, default=str))
        else:
            for finding in findings:
                self.stdout.write(sentence(finding))
            for problem in problems:
                self.stdout.write(self.style.ERROR(f"WRONG: {problem}"))
        if problems:
            raise CommandError(f"{len(problems)} problems.")


def check_nowpayments(problems: list[str]) -> Finding:
    finding = Finding("nowpayments", host=settings.NOWPAYMENTS_BASE_URL)
    finding.coins_on_offer = Coin.objects.filter(is_offered=True).count()
    started = time.monotonic()
    try:
        client = NowPaymentsClient.from_settings()
        client.status()
        finding.latency_ms = round((time.monotonic() - started) * 1000)
        finding.reachable = True
        finding.coins_at_provider = len(set(client.merchant_coins()) & {coin.code for coin in client.coins()})
    except (ProviderError, ImproperlyConfigured) as err:
        problems.append(f"NOWPayments: {err}.")
        return finding
    if not finding.coins_at_provider:
        problems.append("NOWPayments has no coin switched on in your account; choose some in its dashboard.")
    elif not finding.coins_on_offer:
        problems.append("No coin is on offer in the shop yet; the worker fetches them, so check that it runs.")
    return finding


def check_kinguin(problems: list[str]) -> Finding:
    finding = Finding("kinguin", host=settings.KINGUIN_BASE_URL)
    try:
        client = kinguin.client()
    except ImproperlyConfigured as err:
        problems.append(f"Kinguin: {err}")
        return finding
    health = client.health()
    finding.reachable, finding.balance, finding.latency_ms = health.ok, health.balance, round(health.latency_ms)
    finding.gate = _gate(client.host, problems)
    if not health.ok:
        problems.append(f"Kinguin: {health.problem}.")
    elif health.balance is not None and (shortage := balance.shortage(health.balance)):
        problems.append(shortage)
    return finding


def check_r2(problems: list[str]) -> list[Finding]:
    if not key_store().signs_urls:
        return []
    finding = Finding("r2", host=settings.R2_ENDPOINT)
    started = time.monotonic()
    found = probe.problems()
    finding.latency_ms, finding.reachable = round((time.monotonic() - started) * 1000), not found
    problems += [f"R2: {problem}" for problem in found]
    return [finding]


def _gate(host: str, problems: list[str]) -> str:
    row = SupplierGate.objects.filter(pk=host).first()
    status, reason = (row.status, row.reason) if row else (SupplierGate.Status.OPEN, "")
    if settings.SAFE_MODE:
        problems.append("SAFE_MODE is set in the environment: nothing is bought until it is taken out.")
    if status == SupplierGate.Status.PAUSED:
        problems.append(f"Purchases are paused ({reason}); they resume automatically once the supplier is well.")
    if status == SupplierGate.Status.STOPPED:
        problems.append(f"Purchases are stopped ({reason}); `manage.py safe_mode off` lets them leave.")
    return str(status)


def sentence(finding: Finding) -> str:
    if not finding.reachable:
        return f"{finding.provider} ({finding.host}) cannot be used."
    parts = [f"{finding.provider} ({finding.host}) answers in {finding.latency_ms} ms"]
    if finding.balance is not None:
        parts.append(f"balance {plain(finding.balance)} EUR")
    if finding.gate:
        parts.append(f"gate {finding.gate}")
    if finding.coins_on_offer is not None:
        parts.append(f"{finding.coins_on_offer} coins on offer, {finding.coins_at_provider} there")
    return "; ".join(parts) + "."
