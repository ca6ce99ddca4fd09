"""Every setting of the pipeline, declared once, read from the environment and from `.env`."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

import httpx
from dotenv import load_dotenv
from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parent.parent
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
_SCHEMAS = ("replica", "staging", "intermediate", "marts", "main", "temp", "system", "information_schema")


class ConfigurationError(Exception):
    """A setting is missing or wrong; the message is one sentence that says what to set."""


def _from_project_root(path: Path) -> Path:
    """Relative paths mean the same file from every working directory."""
    try:
        path = PROJECT_ROOT / path.expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"cannot be used as a path ({reason})") from None
    return path


ProjectPath = Annotated[Path, AfterValidator(_from_project_root)]


def database_name(path: Path) -> str:
    """What DuckDB calls the database in a file: the first part of the file's name between dots that is not empty."""
    return next(filter(None, path.name.split(".")), path.name)


class Settings(BaseSettings):
    """The variables of the README's table; each field `x` is the variable `SMILEBACK_X`."""

    model_config = SettingsConfigDict(
        env_prefix="SMILEBACK_",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        validate_default=True,
        hide_input_in_errors=True,
    )

    base_url: str = "https://app.smileback.io/api"
    authorize_url: str = "https://app.smileback.io/account/api/authorize/"
    client_id: str | None = None
    client_secret: SecretStr | None = None
    username: str | None = None
    password: SecretStr | None = None
    redirect_uri: str | None = None
    scope: str = "read"
    token_store: Literal["file", "keyring"] = "file"
    token_path: ProjectPath = Path("data/tokens.json")
    """The file; in the keyring, the name of the entry."""
    requests_per_minute: int = Field(30, ge=0, le=1_000_000)
    """0 means that the server has no limit."""
    duckdb_path: ProjectPath = Path("data/warehouse.duckdb")
    analytics_path: ProjectPath = Path("data/analytics.duckdb")
    scorecard_path: ProjectPath = Field(
        default_factory=lambda given: given.get("analytics_path", PROJECT_ROOT).with_name("scorecard.html")
    )
    """Beside the analysts' file unless it is set."""
    privacy: Literal["full", "pseudonymous", "none"] = "full"
    """What is published of people; `replica.privacy` says what each word means."""
    privacy_key: SecretStr | None = Field(None, min_length=16)
    """Makes the pseudonyms; else one is made, and kept beside the tokens."""
    start_date: date = date(2020, 1, 1)
    timezone: str = "UTC"
    lookback_seconds: int = Field(300, ge=0, le=366 * 24 * 3600)
    sensor_minutes: int = Field(15, ge=1, le=24 * 60)
    """How often the sensor asks for changes, once it is turned on."""
    keep_history: bool = True
    """Whether ratings, statuses and comments stay known when they are replaced."""

    @field_validator("*", mode="before")
    @classmethod
    def _is_text(cls, value: object) -> object:
        # Controls, and surrogates, by which Python keeps bytes of the environment that are no UTF-8.
        if isinstance(value, str) and re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", value):
            raise ValueError("must be one line of text in UTF-8")
        return value

    @field_validator("base_url", "authorize_url", "redirect_uri")
    @classmethod
    def _is_safe_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            # By the eyes of whoever will ask there; the login and its listener read it by the other.
            parts, _ = httpx.URL(url), urlsplit(url).port
        except (httpx.InvalidURL, ValueError) as error:
            raise ValueError(f"must be an https:// URL ({error})") from None
        if not parts.host or not (
            parts.scheme == "https" or (parts.scheme == "http" and parts.host in LOOPBACK_HOSTS)
        ):
            raise ValueError("must be an https:// URL (http:// is accepted for loopback only)")
        if parts.userinfo:
            raise ValueError("must not carry a user name or password")
        return url

    @field_validator("base_url")
    @classmethod
    def _can_be_continued(cls, url: str) -> str:
        if "?" in url or "#" in url:
            raise ValueError("must end with a path, such as …/api")
        return url

    @field_validator("start_date")
    @classmethod
    def _is_past(cls, day: date) -> date:
        if not date(1970, 1, 1) <= day <= date.today():
            raise ValueError("must be a day from 1970 to today")
        return day

    @field_validator("timezone")
    @classmethod
    def _is_iana_zone(cls, name: str) -> str:
        # `localtime` is whatever the machine says, and nothing that DuckDB knows.
        if name not in available_timezones() - {"localtime"}:
            raise ValueError("must be an IANA time zone such as Europe/Berlin")
        return name

    @field_validator("duckdb_path", "analytics_path")
    @classmethod
    def _has_unambiguous_name(cls, path: Path) -> Path:
        # Of a database and a schema called `marts`, `marts.scores` would be ambiguous.
        if database_name(path).lower() in _SCHEMAS:
            raise ValueError(f"must not be called {path.name}: that is also the name of a schema; rename it")
        return path

    @model_validator(mode="after")
    def _files_are_different(self) -> Self:
        if len({path.resolve() for path in (self.duckdb_path, self.analytics_path, self.scorecard_path)}) < 3:
            raise ValueError(
                "SMILEBACK_DUCKDB_PATH, SMILEBACK_ANALYTICS_PATH and SMILEBACK_SCORECARD_PATH must be different files"
            )
        return self

    @cached_property
    def zone(self) -> ZoneInfo:
        """The reporting time zone, which cuts days."""
        return ZoneInfo(self.timezone)

    @property
    def start(self) -> datetime:
        """The instant at which the first daily partition begins."""
        return datetime.combine(self.start_date, time(), self.zone)

    @property
    def lookback(self) -> timedelta:
        """How far the watermark trails the newest stamp, for changes that become visible late."""
        return timedelta(seconds=self.lookback_seconds)

    @property
    def grant(self) -> Literal["password", "stored"]:
        """How access is obtained: with a user's password, or with the tokens that `connect` stored."""
        return "password" if self.username and self.password else "stored"

    @property
    def may_have_token(self) -> bool:
        """Whether it is worth asking the token store; a keyring is only opened when a token is needed."""
        return self.token_store == "keyring" or self.token_path.exists()

    def require_credentials(self) -> None:
        """Raise ConfigurationError unless the API can be asked at all."""
        needed = ["client_id", "client_secret"]
        if self.grant == "stored" and not self.may_have_token:
            needed += ["username", "password"]
        missing = [f"SMILEBACK_{name.upper()}" for name in needed if not getattr(self, name)]
        if missing:
            raise ConfigurationError(
                f"No access to SmileBack is configured: set {', '.join(missing)} in the environment or in .env "
                "(or run `smileback-pipeline connect` in place of a user name and password)."
            )


def load_settings() -> Settings:
    """Read the settings, or raise ConfigurationError with a sentence for each wrong variable.

    What `.env` sets becomes part of the environment, for the programs that we start.
    """
    try:
        load_dotenv(PROJECT_ROOT / ".env")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{PROJECT_ROOT / '.env'} cannot be read as text in UTF-8 ({error}).") from None
    return validated_settings()


def validated_settings(**given: object) -> Settings:
    """Return the settings of the environment with some given instead, or raise ConfigurationError."""
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False, include_input=False):
            # That a default could not come from a variable which is wrong is no fault of its own.
            if problem["type"] == "default_factory_not_called":
                continue
            variable = "".join(f"SMILEBACK_{part} ".upper() for part in problem["loc"][:1])
            problems.append(f"{variable}{problem['msg'].removeprefix('Value error, ')}")
        raise ConfigurationError("; ".join(problems)) from None
