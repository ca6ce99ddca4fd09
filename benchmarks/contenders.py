"""Who is measured, and the command that each of them is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
ENVIRONMENTS = ROOT / ".venv-bench"
_COMMAND = Path(sys.executable).with_name("smileback-pipeline")


@dataclass(frozen=True)
class Contender:
    """A tool, and its command line for a server and a directory to work in."""

    name: str
    command: Callable[[str, Path], list[str]]
    packages: tuple[str, ...] = ()
    """What it needs in an environment of its own."""

    @property
    def python(self) -> Path:
        return ENVIRONMENTS / self.name / "bin" / "python"

    def install(self) -> None:
        """Make its environment, unless it is there."""
        if self.packages and not self.python.exists():
            uv = str(Path(sys.executable).with_name("uv"))
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, self.python.parent.parent], check=True)
            subprocess.run([uv, "pip", "install", "--quiet", "--python", self.python, *self.packages], check=True)


def _singer(base_url: str, directory: Path) -> list[str]:
    config = directory / "target.json"
    file = str(directory / "singer.duckdb")
    config.write_text(json.dumps({"path": file, "filepath": file, "default_target_schema": "replica"}))
    tap = f"{SINGER.python} {HERE}/peers/singer_tap.py {base_url}"
    return ["sh", "-c", f"{tap} | {SINGER.python.with_name('target-duckdb')} --config {config}"]


FLOOR = Contender(
    "floor",
    lambda base_url, directory: [sys.executable, "-m", "benchmarks.floor", base_url, f"{directory}/floor.duckdb"],
)
LOAD = Contender("our load alone", lambda base_url, directory: [sys.executable, "-m", "benchmarks.load"])
WHOLE = Contender("our whole job", lambda base_url, directory: [str(_COMMAND), "sync"])
AGAIN = Contender("our whole job, in full", lambda base_url, directory: [str(_COMMAND), "sync", "--full"])
DLT = Contender(
    "dlt",
    lambda base_url, directory: [str(DLT.python), f"{HERE}/peers/dlt_load.py", base_url, f"{directory}/dlt.duckdb"],
    ("dlt[duckdb]",),
)
SINGER = Contender("singer", _singer, ("singer-sdk", "target-duckdb"))
