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
<p>One cookie protects our forms, and another remembers the language if you choose one. There are no trackers and no
scripts of others.</p>
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
TERMS_DE = """
<p><em>Das ist ein Entwurf. Lassen Sie ihn für das Land prüfen, aus dem Sie verkaufen, und veröffentlichen Sie dann hier
Ihren eigenen Text.</em></p>
<h2>Was Sie kaufen</h2>
<p>Sie kaufen einen Lizenzschlüssel (Key) für ein Spiel oder ein anderes digitales Produkt. Auf welcher Plattform und in
welcher Region er sich aktivieren lässt, steht auf der Produktseite; bitte prüfen Sie beides vor der Bestellung.</p>
<h2>Preis und Zahlung</h2>
<p>Die Preise gelten in der angegebenen Währung und enthalten alle unsere Gebühren. Sie bezahlen in dem Coin, den Sie
wählen; sein Betrag steht für die Zeit fest, die Ihre Bestellseite anzeigt. Die Netzwerkgebühr Ihrer Wallet kommt dazu und
geht an das Netzwerk, nicht an uns.</p>
<p>Kommt weniger an als verlangt, können Sie den Rest bezahlen oder sich alles zurücksenden lassen. Was Sie über den Preis
hinaus bezahlen, können Sie zurückbekommen.</p>
<h2>Lieferung</h2>
<p>Wir kaufen Ihren Key, sobald Ihre Zahlung bestätigt ist, und Ihre Bestellseite öffnet ihn in Ihrem Browser. Per E-Mail
senden wir Ihnen den Link zu dieser Seite, nie den Key.</p>
<p>Bekommen wir den Key nicht rechtzeitig, erhalten Sie Ihr Geld in dem Coin zurück, in dem Sie bezahlt haben.</p>
<h2>Geöffnete Keys</h2>
<p>Einen Key, den Sie noch nicht geöffnet haben, können Sie zurückgeben, wie es das Gesetz vorsieht. Mit dem Öffnen
verlangen Sie, dass wir den Vertrag sofort erfüllen; ein geöffneter Key kann deshalb nicht zurückgegeben werden, es sei
denn, er funktioniert nicht. Funktioniert er nicht, schreiben Sie uns.</p>
"""
PRIVACY_DE = """
<p><em>Das ist ein Entwurf. Nennen Sie, wer verantwortlich ist, und prüfen Sie, ob alles zu Ihrem Shop passt.</em></p>
<h2>Was wir speichern</h2>
<ul>
<li>Ihre E-Mail-Adresse, um Ihnen den Link zu Ihrer Bestellung und alles Neue dazu zu senden.</li>
<li>Was Sie bestellt haben, wie es bezahlt wurde, und die Transaktionen im Netzwerk.</li>
<li>Wann Ihre Keys geöffnet wurden, aus welchem Netzwerk und mit welchem Browser, als Nachweis der Lieferung.</li>
<li>Die Adresse, die Sie uns für eine Erstattung nennen.</li>
</ul>
<p>Ihr Key wird verschlüsselt aufbewahrt. Geöffnet wird er in Ihrem eigenen Browser.</p>
<h2>Wer sonst etwas erfährt</h2>
<p>NOWPayments wickelt die Zahlung ab und erfährt Nummer und Betrag der Bestellung. Unser Lieferant erfährt, welches
Produkt wir kaufen. Beide erfahren von uns nicht Ihre E-Mail-Adresse. Verschlüsselte Keys liegen bei Cloudflare.</p>
<h2>Cookies</h2>
<p>Ein Cookie schützt unsere Formulare, ein weiteres merkt sich die Sprache, wenn Sie eine wählen. Tracker und fremde
Skripte gibt es nicht.</p>
<h2>Ihre Rechte</h2>
<p>Sie können erfragen, was wir über Sie gespeichert haben, es berichtigen und löschen lassen, soweit uns kein Gesetz zum
Aufbewahren verpflichtet. Schreiben Sie dafür an die Adresse unten auf dieser Seite.</p>
"""
IMPRINT_DE = """
<p><em>Das ist ein Entwurf. Tragen Sie ein, wer diesen Shop betreibt.</em></p>
<p>Name der Firma oder Person<br>Straße und Hausnummer<br>Postleitzahl, Ort, Land</p>
<p>Register und Nummer, Steuernummer und wer die Firma vertritt, soweit das Gesetz danach fragt.</p>
<p>Sie erreichen uns unter der E-Mail-Adresse unten auf dieser Seite.</p>
"""
PAGES = {
    "/terms": ("Terms", TERMS),
    "/privacy": ("Privacy", PRIVACY),
    "/imprint": ("Imprint", IMPRINT),
    "/de/terms": ("AGB", TERMS_DE),
    "/de/privacy": ("Datenschutz", PRIVACY_DE),
    "/de/imprint": ("Impressum", IMPRINT_DE),
}


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
