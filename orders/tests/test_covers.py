"""Pictures that come from outside: what may be kept, what of them is kept, and how the shop serves it."""

import random
import struct
import zlib
from io import BytesIO

import pytest
from PIL import Image

from orders import covers
from orders.covers import BadPicture
from orders.models import Product
from orders.tests.factories import make_product
from storage.tests.s3stub import running_stub

pytestmark = [pytest.mark.once, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def files(settings, tmp_path):
    place = {"BACKEND": "storage.objects.EmbeddedFiles", "OPTIONS": {"location": tmp_path}}
    settings.STORAGES = {**settings.STORAGES, "covers": place}
    return tmp_path


def picture(size=(600, 800), kind="PNG", mode="RGB", color="#204080", **options):
    file = BytesIO()
    Image.new(mode, size, color).save(file, kind, **options)
    return file.getvalue()


def png_that_says(side):
    """A few bytes whose header promises a square of that side; decoded, they would be too few."""
    header = struct.pack(">4sIIBBBBB", b"IHDR", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    whole = picture((8, 8))
    return whole[:8] + chunk + whole[33:]


def of_a_product(content):
    digest = covers.keep(content)
    make_product(picture=digest)
    return digest


def served(client, digest, side=800, **extra):
    return client.get(covers.url(digest, side), **extra)


def opened(body):
    return Image.open(BytesIO(body))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_is_served_in_two_sizes_for_good(client, kind):
    digest = of_a_product(picture(kind=kind))
    large, small = served(client, digest), served(client, digest, 400)
    assert opened(large.content).size == (600, 800)
    assert opened(small.content).size == (300, 400)
    for answer in (large, small):
        assert answer["Content-Type"] == "image/webp"
        assert answer["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert "img-src 'self' data: blob:" in answer["Content-Security-Policy"]


def test_the_name_stands_for_the_content(files):
    first, again = covers.keep(picture()), covers.keep(picture())
    assert first == again != covers.keep(picture(color="#ff0000"))
    assert len(list((files / "covers").iterdir())) == 4


def test_what_the_file_says_about_itself_stays_behind(client):
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "secret words", 6  # a description; the camera was held sideways
    upright = served(client, of_a_product(picture((800, 600), "JPEG", exif=exif, comment=b"secret words"))).content
    assert b"secret words" not in upright
    assert b"secret words" not in served(client, of_a_product(picture(kind="JPEG", xmp=b"secret words" * 20))).content
    assert (opened(upright).size, dict(opened(upright).getexif())) == ((600, 800), {})


def test_what_hangs_behind_the_pixels_stays_behind(client):
    assert b"<script>" not in served(client, of_a_product(picture() + b"<script>alert(1)</script>")).content


NO_PICTURES = [
    *(b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", b"<html>"),
    *(picture(kind="GIF"), picture(kind="TIFF"), picture()[:200]),
]


@pytest.mark.parametrize("content", NO_PICTURES)
def test_what_is_no_picture_is_refused(content, files):
    with pytest.raises(BadPicture, match="Use a JPEG, PNG or WebP file"):
        covers.keep(content)
    assert not list(files.iterdir())


@pytest.mark.parametrize(("side", "sentence"), [(5001, "5001 × 5001 pixels"), (12_000, "Use a"), (60_000, "Use a")])
def test_a_small_file_that_unpacks_into_gigabytes_is_refused_before_it_does(side, sentence):
    with pytest.raises(BadPicture, match=sentence):
        covers.keep(png_that_says(side))


def test_a_file_that_is_too_large_is_not_even_looked_at():
    with pytest.raises(BadPicture, match="larger than 5 MiB"):
        covers.keep(b"\x00" * (covers.MAX_BYTES + 1))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_broken_files_are_refused_or_read_and_never_crash(kind):
    whole, chance = picture((24, 24), kind), random.Random(7)
    for _ in range(60):
        broken = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        try:
            covers.keep(bytes(broken[: chance.randint(1, len(broken))]))
        except BadPicture:
            continue


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a" * 40 + "-300.webp", "A" * 40 + "-800.webp", "a" * 40 + "-800.png"]
)
def test_nothing_else_is_served(client, name):
    assert client.get(f"/covers/{name}").status_code == 404


def test_a_picture_of_no_product_is_not_found(client):
    digest = covers.keep(picture())
    assert served(client, digest).status_code == 404
    assert client.post(covers.url(digest)).status_code == 405
    make_product(picture=digest)
    assert served(client, digest).status_code == 200  # the miss was not kept


def test_made_up_names_cost_the_object_store_nothing_and_soon_the_database_neither(
    client, settings, django_assert_num_queries
):
    settings.THROTTLE_SCALE = 0.05  # three a minute
    digest, other = of_a_product(picture()), of_a_product(picture(color="#00ff00"))
    with running_stub() as stub:  # which is empty
        settings.STORAGES = {**settings.STORAGES, "covers": {"BACKEND": "storage.r2.R2Files", "OPTIONS": stub.options}}
        assert [served(client, f"{number:040x}").status_code for number in range(4)] == [404] * 4
        with django_assert_num_queries(0):
            refused = served(client, "f" * 40)
        assert (refused.status_code, refused["Retry-After"]) == (429, "60")
        assert served(client, digest).status_code == 429
        assert stub.calls == []
        neighbour = {"REMOTE_ADDR": "192.0.2.77"}
        assert [served(client, digest, **neighbour).status_code for _ in range(3)] == [404] * 3
        assert len(stub.calls) == 1  # that it is lost is known for a minute
        served(client, other, **neighbour)
        assert len(stub.calls) == 2


def test_r2_keeps_them_and_its_silence_is_503(client, settings):
    with running_stub() as stub:
        settings.STORAGES = {**settings.STORAGES, "covers": {"BACKEND": "storage.r2.R2Files", "OPTIONS": stub.options}}
        digest = of_a_product(picture())
        assert sorted(stub.objects) == [f"/keys/covers/{digest}-{side}.webp" for side in (400, 800)]
        stub.fail("GET", *["503"] * 4)
        silent = served(client, digest)
        assert (silent.status_code, silent["Cache-Control"]) == (503, "no-store")
        stub.faults["GET"].clear()
        assert opened(served(client, digest).content).size == (600, 800)
        stub.objects.clear()
        assert served(client, digest).status_code == 200  # this process has it
        stub.fail("PUT", *["503"] * 4)
        with pytest.raises(OSError, match="put"):
            covers.keep(picture(color="#00ff00"))


def test_mail_programs_get_a_jpeg():
    digest = covers.keep(picture(mode="RGBA", color=(0, 0, 0, 0)))
    mailed = opened(covers.as_jpeg(digest))
    assert (mailed.format, mailed.size, mailed.getpixel((5, 5))) == ("JPEG", (300, 400), (255, 255, 255))


def test_a_product_shows_its_picture_or_what_stands_for_none():
    digest = "a" * 40
    assert Product(picture=digest, cover="x.png").cover_url == f"/covers/{digest}-800.webp"
    assert Product(cover="bitloot/covers/x.svg").cover_url == "/static/bitloot/covers/x.svg"
    assert Product().cover_url == "/static/bitloot/covers/no-cover.svg"
    assert Product(picture=digest).cover_sizes == f"/covers/{digest}-400.webp 300w, /covers/{digest}-800.webp 600w"
    assert (Product().cover_sizes, Product(cover="x.png").cover_path) == ("", "x.png")
