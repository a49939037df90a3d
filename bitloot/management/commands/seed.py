from decimal import Decimal
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import CommandError, CommandParser

from bitloot.management.operator import OperatorCommand
from orders.models import Product

REDEEM = "Open the platform's client, choose “Activate a product” and type the key."
CATALOGUE: list[dict[str, Any]] = [
    {
        "slug": "ember-drift",
        "title": "Ember Drift",
        "platform": "PC",
        "description": "Race gliders down the flanks of sleeping volcanoes. They do not stay asleep.",
        "price": "9.99",
        "max_cost": "8.50",
        "number": 1,
    },
    {
        "slug": "harbour-of-glass",
        "title": "Harbour of Glass",
        "platform": "PC",
        "description": "A quiet mystery in a port town where every window remembers what it saw.",
        "price": "14.99",
        "max_cost": "13.20",
        "number": 2,
    },
    {
        "slug": "tiny-orchard-tycoon",
        "title": "Tiny Orchard Tycoon",
        "platform": "PC",
        "description": "Graft, press and sell: build the smallest fruit empire on the hill.",
        "price": "4.99",
        "max_cost": "3.90",
        "number": 3,
    },
    {
        "slug": "nightline-courier",
        "title": "Nightline Courier",
        "platform": "Console",
        "description": "One city, one bicycle, one night. The key comes as a picture of the card inside the box.",
        "activation": "Type the code on the picture into the console's store.",
        "price": "22.99",
        "max_cost": "20.40",
        "key_type": "image",
        "number": 4,
    },
    {
        "slug": "saltmarsh-signals",
        "title": "Saltmarsh Signals (DLC)",
        "platform": "PC",
        "description": "New islands and a lighthouse that answers. Needs the game Harbour of Glass.",
        "price": "6.49",
        "max_cost": "5.50",
        "number": 5,
    },
    {
        "slug": "lumen-wallet-card-20",
        "title": "Lumen Wallet Card 20",
        "platform": "Wallet",
        "description": "Twenty for the Lumen store, to spend on whatever you like.",
        "activation": "Redeem it in your Lumen account under “Wallet”.",
        "price": "19.49",
        "max_cost": "18.20",
        "number": 6,
    },
]


class Command(OperatorCommand):
    help = "With DEBUG only: put six invented products on sale (again: nothing changes), and make a staff login."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--staff", metavar="NAME", help="make (or reset) this superuser")
        parser.add_argument("--password", help="the password of --staff")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError(
                "seed is for development: it sells invented products and sets passwords without their checks. Add"
                " products in the admin, and staff with `manage.py createsuperuser`."
            )
        made = [self._seed(dict(product)) for product in CATALOGUE]
        self.stdout.write(f"{sum(made)} products added, {len(made) - sum(made)} were there.")
        if options["staff"]:
            self._staff(options["staff"], options["password"])

    def _seed(self, product: dict[str, Any]) -> bool:
        number = product.pop("number")
        product |= {"price": Decimal(product["price"]), "max_cost": Decimal(product["max_cost"])}
        defaults = {
            "activation": REDEEM,
            "cover": f"bitloot/covers/{product['slug']}.svg",
            "supplier_product_id": f"64b{number:021d}",
            "supplier_offer_id": f"64c{number:021d}",
        } | product
        _, made = Product.objects.get_or_create(slug=product["slug"], defaults=defaults)
        return made

    def _staff(self, name: str, password: str) -> None:
        user, made = get_user_model().objects.get_or_create(username=name)
        user.is_staff = user.is_superuser = True
        user.set_password(password)
        user.save()
        self.stdout.write(f"Staff login {name} {'made' if made else 'reset'}.")
