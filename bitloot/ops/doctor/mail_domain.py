"""What other mail servers find in DNS about our sender: without it, mails with keys land among spam."""

from collections.abc import Iterator
from email.utils import parseaddr

from django.conf import settings

from bitloot.ops.doctor.finding import Finding, look, ok, wrong

PATIENCE = 5.0
RECORDS = "Your mail service shows the records to enter in your domain's DNS."


class NoAnswer(Exception):
    """DNS could not be asked: nothing is known."""


def mail_domain() -> Iterator[Finding]:
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2].lower()
    if "." not in domain:
        yield look(f"{domain} is no domain that others know", "Set DEFAULT_FROM_EMAIL to an address of your domain.")
        return
    try:
        yield _spf(domain)
        yield _dmarc(domain)
        yield from _dkim(domain)
    except NoAnswer as err:
        yield look(
            f"SPF, DKIM and DMARC of {domain} were not looked up: {err}",
            "Look from a machine that reaches DNS: a mail tester on the web shows all three.",
        )


def _spf(domain: str) -> Finding:
    found = [text for text in _texts(domain) if text.lower().startswith("v=spf1")]
    if len(found) == 1:
        return ok(f"SPF: {found[0]}")
    count = "has no SPF record" if not found else f"has {len(found)} SPF records, and others then take none"
    return wrong(f"{domain} {count}", f"One record names all servers that send for it. {RECORDS}")


def _dmarc(domain: str) -> Finding:
    # Without a record of its own, the organisation's counts (RFC 7489, 6.6.3).
    for name in (domain, ".".join(domain.split(".")[-2:])):
        found = [text for text in _texts(f"_dmarc.{name}") if text.startswith("v=DMARC1")]
        if found:
            return ok(f"DMARC: {found[0]}")
    return wrong(
        f"{domain} has no DMARC record", f"Large mail services want one: v=DMARC1; p=none to begin with. {RECORDS}"
    )


def _dkim(domain: str) -> Iterator[Finding]:
    if not settings.DKIM_SELECTOR:
        yield look(
            f"DKIM of {domain} was not looked up", "Set DKIM_SELECTOR to the selector your mail service signs with."
        )
    for selector in settings.DKIM_SELECTOR:
        name = f"{selector}._domainkey.{domain}"
        keys = [text.replace(" ", "").partition("p=")[2].partition(";")[0] for text in _texts(name)]
        if any(keys):
            yield ok(f"DKIM: {selector} has a key")
        else:
            yield wrong(f"{name} has no DKIM key", f"Signatures cannot be checked without it. {RECORDS}")


def _texts(name: str) -> list[str]:
    """Return the TXT records of a name, none if there is no such name. Raises NoAnswer."""
    import dns.exception  # only where it is used: it takes 1.5 MiB of a process
    import dns.resolver

    try:
        answer = dns.resolver.resolve(name, "TXT", lifetime=PATIENCE)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except (dns.exception.DNSException, OSError) as err:
        raise NoAnswer(type(err).__name__) from err
    return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]
