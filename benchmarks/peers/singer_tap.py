"""The same load as a Singer tap, written with the Singer SDK as its documentation shows it, for target-duckdb."""

import sys

from singer_sdk import RESTStream, Tap
from singer_sdk import typing as th
from singer_sdk.pagination import BaseOffsetPaginator

_TEXT = th.StringType


class Reviews(RESTStream):
    name = "reviews"
    path = "/v3/reviews/"
    primary_keys = ("id",)
    replication_key = "last_modified"
    records_jsonpath = "$.results[*]"
    schema = th.PropertiesList(
        th.Property("id", th.IntegerType),
        th.Property("rating", th.IntegerType),
        th.Property("comment", _TEXT),
        th.Property(
            "ticket",
            th.ObjectType(
                th.Property("id", _TEXT),
                th.Property("title", _TEXT),
                th.Property("segment", th.ObjectType(th.Property("id", _TEXT), th.Property("name", _TEXT))),
                th.Property("agents", th.ArrayType(_TEXT)),
                th.Property("closed_on", th.DateTimeType),
            ),
        ),
        th.Property("contact", th.ObjectType(*(th.Property(n, _TEXT) for n in ("id", "name", "email")))),
        th.Property("company", th.ObjectType(*(th.Property(n, _TEXT) for n in ("id", "name", "market_name")))),
        th.Property("status", _TEXT),
        th.Property("tags", th.ArrayType(_TEXT)),
        th.Property("has_marketing_permission", th.BooleanType),
        th.Property("viewed_on", th.DateTimeType),
        th.Property("rated_on", th.DateTimeType),
        th.Property("permalink", _TEXT),
        th.Property("last_modified", th.DateTimeType),
    ).to_dict()

    @property
    def url_base(self) -> str:
        return self.config["base_url"]

    def get_new_paginator(self) -> BaseOffsetPaginator:
        return _UntilShort(0, 1000)

    def get_url_params(self, context, next_page_token):
        return {"limit": 1000, "offset": next_page_token or 0, "include_unrated": "true"}


class _UntilShort(BaseOffsetPaginator):
    def has_more(self, response) -> bool:
        return response.json()["next"] is not None


class TapSmileBack(Tap):
    name = "tap-smileback"
    config_jsonschema = th.PropertiesList(th.Property("base_url", _TEXT)).to_dict()

    def discover_streams(self):
        return [Reviews(self)]


if __name__ == "__main__":
    TapSmileBack(config={"base_url": sys.argv[1]}).sync_all()
