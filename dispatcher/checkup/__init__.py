"""How an installation is: what `dispatcher doctor` examines part by part, and what the desk sees at a glance."""

from dispatcher.checkup.condition import Condition, Incident, Waiting, condition
from dispatcher.checkup.doctor import disk, examine, examine_settings, workers
from dispatcher.checkup.findings import REMEDIES, Finding, Health

__all__ = [
    "REMEDIES",
    "Condition",
    "Finding",
    "Health",
    "Incident",
    "Waiting",
    "condition",
    "disk",
    "examine",
    "examine_settings",
    "workers",
]
