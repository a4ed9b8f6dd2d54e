"""Code that needs SciPy's array API, whose variable must be set before SciPy is imported."""

import os
import subprocess
import sys


def lines_of(code):
    """What the code prints in a process of its own, line by line."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
    )  # fmt: skip
    return done.stdout.splitlines()
