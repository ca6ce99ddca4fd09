"""The scorecard: one self-contained HTML page that is made from the published file. No Dagster, no network."""
