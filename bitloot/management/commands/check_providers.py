from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError

from bitloot.management.operator import OperatorCommand
from bitloot.ops.provider_health import ask_providers, check_r2


class Command(OperatorCommand):
    help = "Ask the providers and the object store a harmless question."
    has_json = True

    def handle(self, **options: Any) -> None:
        findings, problems = ask_providers()
        findings += check_r2(problems)
        if options["json"]:
            document = {
                "ok": not problems,
                "providers": {finding.provider: asdict(finding) for finding in findings},
                "problems": problems,
            }
            self.write_json(document)
        else:
            for finding in findings:
                self.stdout.write(finding.sentence)
            for problem in problems:
                self.stdout.write(self.style.ERROR(f"WRONG: {problem}"))
        if problems:
            raise CommandError(f"{len(problems)} problems.")
