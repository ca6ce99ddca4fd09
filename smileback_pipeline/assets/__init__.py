"""Dagster assets and their resources: thin, they join the API, the replica and dbt."""
