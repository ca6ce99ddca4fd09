"""The command line as a person has it: a process, an environment, a keyboard; and a browser beside it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from smileback_pipeline.sandbox import Sandbox

COMMAND = str(Path(sys.executable).with_name("smileback-pipeline"))


@dataclass
class Terminal:
    """A machine that uses a SmileBack; `directory` has all its files."""

    sandbox: Sandbox
    directory: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def tokens(self) -> Path:
        return self.directory / "tokens.json"

    def environment(self, **variables: str) -> dict[str, str]:
        """Empty variables count as unset."""
        own = ("SMILEBACK_", "DAGSTER_", "DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "SSH_CONNECTION")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        return {
            **inherited,
            **self.sandbox.environment(),
            "SMILEBACK_REDIRECT_URI": f"http://127.0.0.1:{free_port()}/callback",
            "SMILEBACK_DUCKDB_PATH": str(self.directory / "warehouse.duckdb"),
            "SMILEBACK_ANALYTICS_PATH": str(self.directory / "analytics.duckdb"),
            "SMILEBACK_TOKEN_PATH": str(self.tokens),
            "XDG_STATE_HOME": str(self.directory),
            **self.variables,
            **variables,
        }

    def run(self, *arguments: str, keyboard: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *arguments],
            env=self.environment(**variables),
            cwd=self.directory,
            input=keyboard,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def connecting(self, *arguments: str, **variables: str) -> Login:
        """Start `connect`, up to where it waits for the browser."""
        return Login(
            subprocess.Popen(
                [COMMAND, "connect", *arguments],
                env=self.environment(**variables),
                cwd=self.directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )


class Login:
    """A `connect` that waits for the browser."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.output = ""
        assert process.stdout
        for line in process.stdout:
            self.output += line
            if "here." in line:  # the last line before it waits
                break
        found = re.search(r"https?://\S+/authorize/\S+", self.output)
        assert found, self.output
        self.url = found[0]

    def consent(self, **changes: str) -> str:
        """What the browser is sent to when the person clicks Allow (`allow=""`: Deny)."""
        answer = httpx.post(self.url, data={"allow": "Allow"} | changes)
        assert answer.status_code == 302, answer.text
        return answer.headers["Location"]

    def deny(self) -> str:
        return httpx.post(self.url, data={"deny": "Deny"}).headers["Location"]

    def follow(self, redirect: str) -> httpx.Response:
        """The browser on the same machine goes where it was sent."""
        return httpx.get(redirect, trust_env=False)

    def paste(self, text: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def end(self) -> tuple[int, str]:
        """The exit status, and all that was printed."""
        rest, _ = self._process.communicate(timeout=60)
        self.output += rest
        return self._process.returncode, self.output

    def interrupt(self) -> None:
        self._process.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
