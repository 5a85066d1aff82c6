"""Report: the figures of a long run, kept where CAREPOST_FAULT_REPORT names a file (one JSON object a line)."""

import json
import os
from pathlib import Path
from typing import Any


def note(**figures: Any) -> None:
    """Prints figures, and appends them to the report where there is one."""
    print(json.dumps(figures), flush=True)
    path = os.environ.get("CAREPOST_FAULT_REPORT")
    if path:
        with Path(path).open("a") as file:
            file.write(json.dumps(figures) + "\n")
