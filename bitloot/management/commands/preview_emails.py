from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from bitloot.management.operator import OperatorCommand
from orders.mail_samples import Sample, samples


class Command(OperatorCommand):
    help = (
        "Write every mail that the shop sends, in every language, as text and HTML files, to be looked at in a browser."
        " The order in them is made up; nothing is read from the database and nothing is sent."
    )
    exit_codes = {0: "written"}
    has_json = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", nargs="?", default="var/mails", help="where to (var/mails)")

    def handle(self, *, folder: str, **options: Any) -> None:
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        written = [_write(target, sample) for sample in samples()]
        if options["json"]:
            self.write_json(written)
        else:
            self.stdout.write(f"{len(written)} mails are in {target}.")


def _write(folder: Path, sample: Sample) -> dict[str, str]:
    stem = f"{sample.name}.{sample.language}"
    text = f"Subject: {sample.letter.subject}\n\n{sample.letter.text}"
    (folder / f"{stem}.txt").write_text(text, "utf-8")
    (folder / f"{stem}.html").write_text(sample.letter.html, "utf-8")
    return {"mail": sample.name, "language": sample.language, "subject": sample.letter.subject, "file": stem}
