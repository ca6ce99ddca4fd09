"""The client of the Data Replication API: access, quota, pages and the walk. No Dagster, no DuckDB."""
