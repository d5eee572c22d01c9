"""`dispatcher doctor`: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from dispatcher.cli.output import FAILED, WELL, AsJson, answering, print_json, say

if TYPE_CHECKING:
    from dispatcher.checkup import Finding

SIGNS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


def doctor(as_json: AsJson = False) -> None:
    """Examine this installation: settings, database, broker, relays, disk, workers, alarms.

    The exit code is 1 if anything must be mended.
    """
    from dispatcher import checkup

    with answering(as_json):
        findings = asyncio.run(checkup.examine())
    failed = any(finding.health is checkup.Health.FAIL for finding in findings)
    if as_json:
        print_json({"ok": not failed, "checks": [finding.as_json() for finding in findings]})
    else:
        for finding in findings:
            _print(finding)
    raise typer.Exit(FAILED if failed else WELL)


def _print(finding: Finding) -> None:
    sign, style = SIGNS[finding.health]
    say(f"{sign} {finding.name}: {finding.detail}", style=style)
    if finding.remedy:
        say(f"  {finding.remedy}")
