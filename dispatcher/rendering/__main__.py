"""`python -m dispatcher.rendering --lint`: check every template; exit 1 and say where if one is wrong."""

from __future__ import annotations

import argparse
import sys

from dispatcher.rendering import template_dir
from dispatcher.rendering.lint import lint_templates


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dispatcher.rendering", description=__doc__)
    parser.add_argument("--lint", action="store_true", required=True, help="check every template")
    parser.parse_args()
    found = lint_templates()
    for problem in found:
        sys.stderr.write(f"{problem}\n")
    if not found:
        sys.stdout.write(f"The templates in {template_dir()} are in order.\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
