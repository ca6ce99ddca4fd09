"""A realistic SmileBack on loopback, for trying things out and for the tests. Production never imports it."""

from smileback_pipeline.sandbox.oauth import Account
from smileback_pipeline.sandbox.server import LoggedRequest, Sandbox, running_sandbox, serve
from smileback_pipeline.sandbox.world import ENDPOINTS, World

__all__ = ["ENDPOINTS", "Account", "LoggedRequest", "Sandbox", "World", "running_sandbox", "serve"]
