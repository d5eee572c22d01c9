"""`python -m dispatcher.rendering --lint`: check every template and catalogue; exit 1 and say where if one is wrong.

`--catalogues` brings the catalogues of all languages up to date with the templates and the code.
"""

from __future__ import annotations

import argparse
import sys

from dispatcher.rendering import template_dir
from dispatcher.rendering.lint import lint_templates
from dispatcher.rendering.translating import lint_catalogues, update_catalogues


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dispatcher.rendering")
    jobs = parser.add_mutually_exclusive_group(required=True)
    jobs.add_argument("--lint", action="store_true", help="check every template and every catalogue")
    jobs.add_argument("--catalogues", action="store_true", help="bring the catalogues up to date, then check them")
    asked = parser.parse_args()
    if asked.catalogues:
        for path in update_catalogues():
            sys.stdout.write(f"{path} is up to date.\n")
    found = [*([] if asked.catalogues else lint_templates()), *lint_catalogues()]
    for problem in found:
        sys.stderr.write(f"{problem}\n")
    if not found:
        sys.stdout.write(f"The templates in {template_dir()} are in order.\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
