"""SmileBack customer feedback, replicated into a DuckDB file you own, with the scores computed."""

from importlib.metadata import version

__version__ = version("smileback-pipeline")
