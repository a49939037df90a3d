"""What search needs on PostgreSQL: an index for words, and pg_trgm, which finds mistyped ones.

The owner of a database may make this extension, for PostgreSQL trusts it. Where they may not, or it is not installed, the
shop finds everything but what is mistyped, until somebody runs CREATE EXTENSION pg_trgm.
"""

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector
from django.db import DatabaseError, connection, migrations, transaction

# Without a list of changes to come: a planner that sees a long one reads the whole table instead.
WORDS = GinIndex(
    SearchVector("title", "platform", "region", "genres", config="simple"), name="product_words", fastupdate=False
)


def prepare(apps, schema_editor):
    if connection.vendor != "postgresql":
        return
    schema_editor.add_index(apps.get_model("orders", "Product"), WORDS)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except DatabaseError as err:
        print(f"\n  Search will find no mistyped words: {str(err).strip()}. See docs/deploy-without-docker.md.", end="")


def undo(apps, schema_editor):
    if connection.vendor == "postgresql":
        schema_editor.remove_index(apps.get_model("orders", "Product"), WORDS)


class Migration(migrations.Migration):
    dependencies = [("bitloot", "0001_pages"), ("orders", "0001_initial")]
    operations = [migrations.RunPython(prepare, undo)]
