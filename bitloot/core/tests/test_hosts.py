import pytest

from bitloot.core.hosts import in_ascii


@pytest.mark.parametrize(
    ("host", "written"),
    [
        ("straße.de", "xn--strae-oqa.de"),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("παράδειγμα.δοκιμή", "xn--hxajbheg2az3al.xn--jxalpdlp"),
        ("shop.example", "shop.example"),
        ("XN--STRAE-OQA.de", "XN--STRAE-OQA.de"),
    ],
)
def test_a_host_is_written_as_dns_knows_it(host, written):
    assert in_ascii(host) == written


@pytest.mark.parametrize("host", ["a\u200db.de", "ＡＢＣ.de", "-ü.de", "bu\u0308cher.de", "ü..de", "ü b.de"])
def test_what_is_no_host_or_has_another_spelling_is_refused(host):
    with pytest.raises(UnicodeError):
        in_ascii(host)
