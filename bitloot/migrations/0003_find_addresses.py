"""What finds orders by a part of their e-mail address on PostgreSQL. Without pg_trgm they are found too, but slowly."""

from django.db import connection, migrations

# The expression is Django's for `email__icontains`.
INDEX = "CREATE INDEX order_by_part_of_email ON orders_order USING gin (UPPER(email::text) gin_trgm_ops)"


def prepare(apps, schema_editor):
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")
        if cursor.fetchone() is None:
            return
    schema_editor.execute(INDEX)


def undo(apps, schema_editor):
    if connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX IF EXISTS order_by_part_of_email")


class Migration(migrations.Migration):
    dependencies = [("bitloot", "0002_search"), ("orders", "0001_initial")]
    operations = [migrations.RunPython(prepare, undo)]
