import json
import uuid
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from bitloot.evidence.chain import problems
from bitloot.evidence.pack import pack_of
from bitloot.evidence.pdf import pdf_of
from bitloot.management.operator import OperatorCommand, UsageError
from bitloot.ops.operator import whoami
from orders.models import Order


class Command(OperatorCommand):
    help = (
        "Print as JSON everything that is kept about an order, as a pack whose entries hold together by their digests;"
        " no key and no link is in it. --pdf writes the same for people, --verify checks a pack that somebody brings."
    )
    exit_codes = {0: "done; with --verify: the pack is as it was made", 1: "the pack was changed; the text says where"}

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("order", type=uuid.UUID, nargs="?", help="the order's id")
        parser.add_argument("--pdf", type=Path, metavar="FILE", help="write a PDF instead")
        parser.add_argument("--verify", type=Path, metavar="FILE", help="check a pack of this command's JSON")

    def handle(self, *, order: uuid.UUID | None, pdf: Path | None, verify: Path | None, **options: Any) -> None:
        if verify is not None:
            self._verify(verify)
            return
        row = Order.objects.filter(pk=order).first() if order else None
        if row is None:
            raise UsageError(f"There is no order {order}." if order else "Name an order, or a pack to --verify.")
        pack = pack_of(row, actor=whoami())
        if pdf is None:
            self.write_json(pack)
            return
        pdf.write_bytes(pdf_of(pack))
        self.stdout.write(f"Final digest: {pack['digest']}")

    def _verify(self, file: Path) -> None:
        try:
            pack = json.loads(file.read_text())
        except (ValueError, RecursionError):
            raise CommandError("The file is not JSON.") from None
        for problem in problems(pack):
            raise CommandError(problem)
        self.stdout.write(f"{len(pack['entries'])} entries, as they were made. Final digest: {pack['digest']}")
