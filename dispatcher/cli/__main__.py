"""`python -m dispatcher.cli` is `dispatcher`."""

from __future__ import annotations

from dispatcher.cli import main

main()
