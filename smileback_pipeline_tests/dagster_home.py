"""A Dagster instance as the project ships it, in a directory of its own."""

from pathlib import Path

from smileback_pipeline.settings import PROJECT_ROOT


def create_dagster_home(directory: Path) -> Path:
    """Return a new DAGSTER_HOME under `directory` with the shipped `dagster.yaml`, its storage inside."""
    home = directory / "dagster"
    home.mkdir()
    shipped = (PROJECT_ROOT / "dagster.yaml").read_text()
    (home / "dagster.yaml").write_text(shipped.replace(": .dagster", f": {home}"))
    return home
