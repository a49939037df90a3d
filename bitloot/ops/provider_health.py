"""A harmless question to each provider and to the object store: do they answer, and can the shop sell?"""

import time
from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from bitloot.core.money import plain
from bitloot.core.providers import ProviderError
from fulfillment import balance, kinguin
from fulfillment.models import SupplierGate
from payments.models import Coin
from payments.nowpayments import NowPaymentsClient
from storage import probe
from storage.objects import key_store


@dataclass
class ProviderHealth:
    provider: str
    host: str = ""
    reachable: bool = False
    latency_ms: int | None = None
    balance: Decimal | None = None
    gate: str = ""
    coins_at_provider: int | None = None
    coins_on_offer: int | None = None

    @property
    def sentence(self) -> str:
        if not self.reachable:
            return f"{self.provider} ({self.host}) cannot be used."
        parts = [f"{self.provider} ({self.host}) answers in {self.latency_ms} ms"]
        if self.balance is not None:
            parts.append(f"balance {plain(self.balance)} EUR")
        if self.gate:
            parts.append(f"gate {self.gate}")
        if self.coins_on_offer is not None:
            parts.append(f"{self.coins_on_offer} coins on offer, {self.coins_at_provider} there")
        return "; ".join(parts) + "."


def ask_providers() -> tuple[list[ProviderHealth], list[str]]:
    """Ask NOWPayments and Kinguin; return how they are, and what is wrong."""
    problems: list[str] = []
    return [check_nowpayments(problems), check_kinguin(problems)], problems


def check_nowpayments(problems: list[str]) -> ProviderHealth:
    finding = ProviderHealth("nowpayments", host=settings.NOWPAYMENTS_BASE_URL)
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


def check_kinguin(problems: list[str]) -> ProviderHealth:
    finding = ProviderHealth("kinguin", host=settings.KINGUIN_BASE_URL)
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


def check_r2(problems: list[str]) -> list[ProviderHealth]:
    if not key_store().signs_urls:
        return []
    finding = ProviderHealth("r2", host=settings.R2_ENDPOINT)
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
