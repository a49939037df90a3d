import uuid
from decimal import Decimal
from urllib.parse import quote

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from orders import covers

MAX_QUANTITY = 9  # the supplier's limit per offer
MAX_LINES = 10  # and per order
NO_COVER = "bitloot/covers/no-cover.svg"


class Product(models.Model):
    class KeyType(models.TextChoices):
        TEXT = "text"
        IMAGE = "image"
        ANY = "any"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slug = models.SlugField(unique=True, max_length=80)
    title = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    platform = models.CharField(max_length=40, blank=True)
    region = models.CharField(max_length=40, blank=True, default="Region free")
    activation = models.TextField(blank=True, help_text="How the customer redeems the key.")
    cover = models.CharField(max_length=200, blank=True, help_text="Path of the picture under static/.")
    picture = models.CharField(max_length=80, blank=True, help_text="Digest of an uploaded or fetched cover.")
    genres = models.JSONField(default=list, blank=True)
    age_rating = models.CharField(max_length=20, blank=True)
    release_date = models.DateField(null=True, blank=True)
    price = models.DecimalField(max_digits=10, decimal_places=2, validators=[MinValueValidator(Decimal("0.01"))])
    currency = models.CharField(max_length=3, default="EUR")
    key_type = models.CharField(max_length=8, choices=KeyType.choices, default=KeyType.TEXT)
    supplier_product_id = models.CharField(max_length=64, help_text="Kinguin's productId.")
    supplier_offer_id = models.CharField(max_length=64, blank=True, help_text="Needed by the `orders` dialect only.")
    max_cost = models.DecimalField(
        max_digits=10,
        decimal_places=2,
        validators=[MinValueValidator(Decimal("0.01"))],
        help_text="The most we pay the supplier per key, EUR. A dearer offer holds the order.",
    )
    min_margin = models.DecimalField(
        max_digits=10,
        decimal_places=2,
        default=Decimal(0),
        validators=[MinValueValidator(Decimal(0))],
        help_text="What has to be left of the customer's price per key, EUR. Less holds the order.",
    )
    stock_wait_hours = models.PositiveSmallIntegerField(
        default=24, help_text="How long a paid order waits for stock or a better price before its money is owed back."
    )
    is_active = models.BooleanField(default=True, db_index=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["title"]
        indexes = [
            # Each product.update of the supplier's is looked up by it.
            models.Index(fields=["supplier_product_id"], name="product_by_supplier_id"),
            # The shop window, in its usual order.
            models.Index(fields=["title", "id"], name="product_by_title", condition=Q(is_active=True)),
            # How many games each platform and region has: no other column is read.
            models.Index(fields=["platform", "region"], name="product_by_platform", condition=Q(is_active=True)),
            # Whether a cover that is asked for is one of ours.
            models.Index(fields=["picture"], name="product_by_picture"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(price__gt=0), name="product_price_positive"),
            models.CheckConstraint(condition=Q(max_cost__gt=0), name="product_max_cost_positive"),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def cover_path(self) -> str:
        """Where its picture is: the address of one that we keep, or else the path of one under static/, or ""."""
        return covers.url(self.picture) if self.picture else self.cover

    @property
    def cover_url(self) -> str:
        """Return the address of its picture, or of the one that stands for none."""
        path = self.cover_path or NO_COVER
        # Not the static tag: staff type this path, and a mistyped one must not break the page.
        return path if path.startswith("/") else f"{settings.STATIC_URL}{quote(path)}"

    @property
    def cover_sizes(self) -> str:
        """Return what a browser may choose from (srcset), "" where there is one size only."""
        if not self.picture:
            return ""
        return f"{covers.url(self.picture, covers.SMALL)} 300w, {covers.url(self.picture)} 600w"

    def clean(self) -> None:
        if self.price is not None and self.max_cost is not None and self.max_cost > self.price:
            raise ValidationError({"max_cost": "This is more than the price: every such key would be sold at a loss."})
