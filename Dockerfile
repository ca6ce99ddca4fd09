# One image for the code server, the webserver, the daemon and the command line; compose.yaml starts them.
FROM python:3.11-slim-bookworm

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    UV_NO_CACHE=1

RUN useradd --uid 1000 --create-home smileback \
    && install --directory --owner=smileback /data /dagster /app

WORKDIR /app
# What is locked, without what only development needs.
COPY pyproject.toml requirements.lock ./
RUN python -m venv /opt/venv \
    && grep -oE '^(uv|setuptools)==[^ ]+' requirements.lock | xargs pip install --no-cache-dir \
    && uv pip install --python /opt/venv --compile-bytecode \
        --constraint requirements.lock --requirement pyproject.toml --extra postgres

COPY --chown=smileback . .
COPY deploy/dagster.yaml deploy/workspace.yaml /dagster/
RUN uv pip install --python /opt/venv --no-deps --no-build-isolation --editable . \
    && python -m compileall -q smileback_pipeline

USER smileback
# dbt's project, parsed once and not at each start.
RUN python -c "from smileback_pipeline.assets.dbt import prepared_dbt_project; prepared_dbt_project()"

# Everything that must outlive a container is in the volume: files, tokens, logs, the quota.
ENV DAGSTER_HOME=/dagster \
    XDG_STATE_HOME=/data/state \
    SMILEBACK_DUCKDB_PATH=/data/warehouse.duckdb \
    SMILEBACK_ANALYTICS_PATH=/data/analytics.duckdb \
    SMILEBACK_TOKEN_PATH=/data/tokens.json
VOLUME /data

CMD ["smileback-pipeline", "--help"]
