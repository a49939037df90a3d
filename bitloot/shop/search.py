"""Finding products by what people type: words in any order, the last ones half typed, mistyped ones on PostgreSQL.

PostgreSQL has an index for the words (bitloot/migrations/0002_search.py). SQLite reads all titles: 10 to 20 ms for
10,000 products, so a full-text table that triggers keep up to date would be machinery for nothing.
"""

import re
import unicodedata
from functools import reduce
from operator import and_, or_

from django.contrib.postgres.search import SearchQuery, SearchVector, TrigramWordSimilarity
from django.db import connection
from django.db.models import Case, IntegerField, Q, QuerySet, Value, When

from orders.models import Product

MAX_WORDS = 8
FIELDS = ("title", "platform", "region", "genres")
# The index is over exactly this expression. “simple” knows no language: titles are names.
WORDS = SearchVector(*FIELDS, config="simple")
# A letter too many, too few or wrong in each word is still alike. No more guesses than a look takes in.
ALIKE = 0.33
GUESSES = 24


def search(products: QuerySet[Product], text: str) -> QuerySet[Product]:
    """Return the products that all words of the text fit, the best first; all of them if it is empty."""
    words = _words(text)
    if not words:
        # Signs without a word fit nothing; to show everything would look like an answer.
        return products.none() if text.strip() else products
    return _by_index(products, words) if connection.vendor == "postgresql" else _by_reading(products, words)


def is_guess(product: Product, text: str) -> bool:
    """Whether the product was found only because it is spelled like the text."""
    has = " ".join([product.title, product.platform, product.region, *map(str, product.genres)]).casefold()
    return not all(word.casefold() in has for word in _words(text))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text))[:MAX_WORDS]


def _by_index(products: QuerySet[Product], words: list[str]) -> QuerySet[Product]:
    # Raw, for the words that are half typed: `_words` lets no sign of the query language through.
    query = SearchQuery(" & ".join(f"{word}:*" for word in words), config="simple", search_type="raw")
    found = products.alias(words=WORDS).filter(words=query)
    return _best_first(found, words) if found.exists() else _guess(products, " ".join(words))


def _guess(products: QuerySet[Product], text: str) -> QuerySet[Product]:
    """Return what is spelled like the text. Reads all titles, so this is for texts that nothing fits."""
    if not _knows_trigrams():
        return products.none()
    alike = TrigramWordSimilarity(text, "title")
    best = products.alias(alike=alike).filter(Q(alike__gte=ALIKE) | Q(title__icontains=text)).order_by("-alike", "id")
    return products.filter(pk__in=list(best.values_list("pk", flat=True)[:GUESSES])).order_by(alike.desc(), "title")


def _knows_trigrams() -> bool:
    with connection.cursor() as cursor:
        # The tables' owner may not have been allowed to add it (bitloot/migrations/0002_search.py).
        cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")
        return cursor.fetchone() is not None


def _by_reading(products: QuerySet[Product], words: list[str]) -> QuerySet[Product]:
    return _best_first(products.filter(*map(_has, words)), words)


def _best_first(found: QuerySet[Product], words: list[str]) -> QuerySet[Product]:
    """Sort by what the title has of it. A rank of PostgreSQL's would parse each product anew: 50 µs instead of 3."""
    begins, has = Q(title__istartswith=" ".join(words)), reduce(and_, (Q(title__icontains=word) for word in words))
    order = Case(When(begins, then=Value(0)), When(has, then=Value(1)), default=Value(2), output_field=IntegerField())
    return found.order_by(order, "title", "id")


def _has(word: str) -> Q:
    return reduce(or_, (Q((f"{field}__icontains", word)) for field in FIELDS))
