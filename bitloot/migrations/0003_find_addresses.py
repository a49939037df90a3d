"""What finds orders by a part of their e-mail address on PostgreSQL. Without pg_trgm it is found all the same, slowly."""

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import connection, migrations
from django.db.models.functions import Upper

PARTS = GinIndex(OpClass(Upper("email"), name="gin_trgm_ops"), name="order_by_part_of_email")


def prepare(apps, schema_editor):
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")
        if cursor.fetchone() is None:
            return
    schema_editor.add_index(apps.get_model("orders", "Order"), PARTS)


def undo(apps, schema_editor):
    if connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX IF EXISTS order_by_part_of_email")


class Migration(migrations.Migration):
    dependencies = [("bitloot", "0002_search"), ("orders", "0001_initial")]
    operations = [migrations.RunPython(prepare, undo)]
