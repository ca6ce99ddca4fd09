"""The replica in DuckDB: landing pages, sync state, pending days, publishing. No HTTP, no Dagster."""
