"""A virtual environment for each peer, made once and kept beside the project's other data."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.peers.systems import System

FOLDER = Path(".downbeat/peers")


def python_of(system: System) -> Path:
    """The interpreter that runs its driver. Raises: subprocess.CalledProcessError when pip cannot install it."""
    if system.is_ours:
        return Path(sys.executable)
    folder = (FOLDER / system.driver.removesuffix("_driver")).resolve()
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join(system.requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(folder, clear=True, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        subprocess.run([*pip, *system.requirements], check=True)
        stamp.write_text(wanted)
    return python


def versions(system: System) -> str:
    """What was installed of it, as `name==version`; empty for ours."""
    if system.is_ours:
        return ""
    name = system.requirements[0]
    code = f"from importlib.metadata import version; print(version({name!r}))"
    found = subprocess.run([python_of(system), "-c", code], check=True, capture_output=True, text=True)
    return f"{name}=={found.stdout.strip()}"
