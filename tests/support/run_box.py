"""A box of small programs in a process of its own: `python -m tests.support.run_box DIRECTORY [STUBBORN PART]`.

Prints one line of JSON once it is up, and ends as `dispatcher up` does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dispatcher.embedded.box import ENDINGS, Box
from dispatcher.errors import DispatcherError
from tests.support import programs


def main(directory: str, stubborn: str = "") -> None:
    """Run until told to end; exit code 1 and the reason if it cannot go on."""
    commands = dict(programs.COMMANDS)
    if stubborn:
        commands[stubborn] = programs.STUBBORN
    try:
        with Box(Path(directory), commands=commands, concurrency=2) as box:
            print(json.dumps({"pids": box.pids(), "settings": box.settings}), flush=True)
            box.wait()
    except ENDINGS:
        return
    except DispatcherError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


main(*sys.argv[1:])
