from hashlib import sha256

import django.db.models.functions.datetime
from django.db import migrations, models


def keep_first_texts(apps, schema_editor):
    version = apps.get_model("evidence", "PageVersion")
    for url, text in apps.get_model("flatpages", "FlatPage").objects.values_list("url", "content"):
        version.objects.create(url=url, text=text, sha256=sha256(text.encode()).hexdigest())


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('bitloot', '0001_pages'),
        ('flatpages', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='PageVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('url', models.CharField(editable=False, max_length=100)),
                ('text', models.TextField(blank=True, editable=False)),
                ('sha256', models.CharField(editable=False, max_length=64)),
                ('valid_from', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                'verbose_name': 'version of a page',
                'verbose_name_plural': 'versions of pages',
                'ordering': ['-id'],
                'indexes': [models.Index(fields=['url', '-id'], name='pageversion_newest')],
            },
        ),
        migrations.RunPython(keep_first_texts, migrations.RunPython.noop),
    ]
