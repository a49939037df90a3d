"""Drafts of the pages that a shop needs. They are starting points: staff write the real ones in the admin."""

from urllib.parse import urlsplit

from django.conf import settings
from django.db import migrations

TERMS = """
<p><em>This is a draft. Have it checked for the country that you sell from, then publish your own text here.</em></p>
<h2>What you buy</h2>
<p>You buy a licence key for a game or another digital product. The product's page says on which platform and in which
region it can be activated; please check both before you order.</p>
<h2>Price and payment</h2>
<p>Prices are in the currency shown and include all of our fees. You pay in the coin that you choose; its amount is fixed
for the time that the order's page shows. Your wallet's network fee comes on top and goes to the network, not to us.</p>
<p>If less than asked arrives, you can pay the rest or have it sent back. What you pay beyond the price can be sent back
to you.</p>
<h2>Delivery</h2>
<p>We buy your key once your payment is confirmed, and your order's page opens it in your browser. We e-mail you the link
to that page, never the key.</p>
<p>If we cannot get the key in time, you get your money back in the coin that you paid with.</p>
<h2>Opened keys</h2>
<p>A key that you have not opened yet can be returned as the law says. With opening it you ask us to perform the contract
at once, so an opened key cannot be returned unless it does not work. If it does not work, write to us.</p>
"""
PRIVACY = """
<p><em>This is a draft. Name who is responsible, and check it against what your shop really does.</em></p>
<h2>What we keep</h2>
<ul>
<li>Your e-mail address, to send you the link to your order and news about it.</li>
<li>What you ordered, how it was paid, and the transactions on the network.</li>
<li>When your keys were opened, from which network and with which browser, as evidence of the delivery.</li>
<li>The address that you give us for a refund.</li>
</ul>
<p>Your key is kept encrypted. It is opened in your own browser.</p>
<h2>Who else sees what</h2>
<p>NOWPayments handles the payment and learns the order's number and amount. Our supplier learns which product we buy.
Neither learns your e-mail address from us. Encrypted keys lie with Cloudflare.</p>
<h2>Cookies</h2>
<p>The shop uses one cookie, which protects its forms. There are no trackers and no scripts of others.</p>
<h2>Your rights</h2>
<p>You may ask what we keep about you, have it corrected, and have it deleted where no law makes us keep it. Write to the
address at the bottom of this page.</p>
"""
IMPRINT = """
<p><em>This is a draft. Enter who runs this shop.</em></p>
<p>Name of the company or person<br>Street and number<br>Postal code, city, country</p>
<p>Register and number, tax number, and who represents the company, where the law asks for them.</p>
<p>You reach us at the e-mail address at the bottom of this page.</p>
"""
PAGES = {"/terms": ("Terms", TERMS), "/privacy": ("Privacy", PRIVACY), "/imprint": ("Imprint", IMPRINT)}


def write_drafts(apps, schema_editor):
    host = urlsplit(settings.SITE_URL).hostname or "localhost"
    site, _ = apps.get_model("sites", "Site").objects.get_or_create(
        pk=settings.SITE_ID, defaults={"domain": host, "name": host[:50]}
    )
    for url, (title, content) in PAGES.items():
        page, is_new = apps.get_model("flatpages", "FlatPage").objects.get_or_create(
            url=url, defaults={"title": title, "content": content.strip()}
        )
        if is_new:
            page.sites.add(site)


def remove_drafts(apps, schema_editor):
    """Remove what is still as it came; what staff have written stays."""
    for url, (_, content) in PAGES.items():
        apps.get_model("flatpages", "FlatPage").objects.filter(url=url, content=content.strip()).delete()


class Migration(migrations.Migration):
    initial = True
    dependencies = [("flatpages", "0001_initial"), ("sites", "0002_alter_domain_unique")]
    operations = [migrations.RunPython(write_drafts, remove_drafts)]
