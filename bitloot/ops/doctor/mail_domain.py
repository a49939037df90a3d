"""What other mail servers find in DNS about our sender: without it, mails with keys land among spam."""

import re
from collections.abc import Iterator
from email.utils import parseaddr

from django.conf import settings

from bitloot.ops.doctor.finding import Finding, look, ok, wrong

PATIENCE = 5.0
_DMARC = re.compile(r"v\s*=\s*DMARC1\s*(;|$)")
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
    found = _policy(domain)
    if found is not None:
        return ok(f"DMARC: {found}")
    return wrong(
        f"{domain} has no DMARC record", f"Large mail services want one: v=DMARC1; p=none to begin with. {RECORDS}"
    )


def _policy(domain: str) -> str | None:
    """Return the DMARC record that counts for the domain: its own, or else that of its organisation.

    Which that is shows on the way up through the labels, without a list of public suffixes (the tree walk of DMARCbis):
    the highest that has a record and is no registry.
    """
    labels = domain.split(".")
    found = None
    # Of a very long name the seven labels on the right only, as the standard has it.
    for start in (0, *range(max(1, len(labels) - 7), len(labels))):
        name = ".".join(labels[start:])
        records = [text for text in _texts(f"_dmarc.{name}") if _DMARC.match(text)]
        if len(records) != 1:  # of several none counts
            continue
        tags = "".join(records[0].lower().split()).split(";")
        if start and "psd=y" in tags:  # a registry's, such as that of .bank: ours would stand below
            break
        found = records[0]
        if start == 0 or "psd=n" in tags:
            break
    return found


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
