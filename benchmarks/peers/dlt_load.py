"""The same load with dlt's REST source, as its documentation shows it. Runs in an environment of its own."""

import sys

import dlt
from dlt.sources.rest_api import rest_api_source

base_url, file = sys.argv[1:]
source = rest_api_source(
    {
        "client": {
            "base_url": f"{base_url}/v3/",
            "paginator": {"type": "offset", "limit": 1000, "total_path": "count"},
        },
        "resources": [
            {
                "name": "reviews",
                "primary_key": "id",
                "write_disposition": "merge",
                "endpoint": {"path": "reviews/", "params": {"include_unrated": "true"}, "data_selector": "results"},
            }
        ],
    }
)
pipeline = dlt.pipeline("smileback", destination=dlt.destinations.duckdb(file), dataset_name="replica")
pipeline.run(source)
