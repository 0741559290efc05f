# Build:  docker build -t aigcspace-billing-proxy .
# Run:    docker run -p 8000:8000 -v billing-proxy:/data aigcspace-billing-proxy

FROM python:3.12-slim-bookworm AS build
WORKDIR /srv
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /srv/.venv
# Dependencies first: they change less often than the code, and are kept as a layer of their own.
COPY requirements.lock ./
RUN .venv/bin/python -m pip install --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE alembic.ini ./
COPY alembic alembic
COPY app app
# Editable, since the migrations are read from beside the package.
RUN .venv/bin/python -m pip install --no-deps -e . && .venv/bin/python -m compileall -q app alembic

FROM python:3.12-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /data --create-home proxy && chmod 0700 /data
COPY --from=build /srv /srv
WORKDIR /srv
USER proxy
# All that is ever written is under DATA_DIR and /tmp, so that the root file system can be read-only.
ENV HOST=0.0.0.0 PORT=8000 DATA_DIR=/data PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD [".venv/bin/python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/readyz', timeout=2)"]
# SIGTERM lets the calls in flight end and their rows be written: give it SHUTDOWN_WAIT and some seconds more.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/srv/.venv/bin/billing-proxy"]
CMD ["serve"]
