"""Host names in letters of their own, as DNS knows them."""

import idna


def in_ascii(host: str) -> str:
    """Return xn--strae-oqa.de for straße.de; ASCII stays as it is. Raises UnicodeError for what is no host's name.

    By IDNA 2008, as registries and browsers have it. Python's codec and Django's punycode() are of 2003: they make
    strasse.de of straße.de, which may be somebody else's, and pass over signs that nobody sees.
    """
    if host.isascii():
        return host
    written = idna.encode(host, uts46=True).decode()
    if idna.decode(written) != host.lower():  # full-width letters and the like: one host would have many spellings
        raise UnicodeError("this host has another spelling")
    return written
