# Build:  docker build -t aigcspace-billing-proxy .
# Run:    docker run --read-only --tmpfs /tmp -p 8000:8000 -v billing-proxy:/data -e DATABASE_URL=postgresql+asyncpg://... \
#             -e ADMIN_TOKEN=... -e SECRET_KEY=... aigcspace-billing-proxy
#         Without DATABASE_URL it runs the embedded PostgreSQL on the volume: to try it, or for one machine.
# Stop:   docker stop -t 75: the calls in flight end first.

FROM python:3.12-slim-bookworm AS build
WORKDIR /srv
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# No pip in what is run.
RUN python -m venv --without-pip /srv/.venv
# Dependencies first: they change less often than the code, and are kept as a layer of their own.
COPY requirements.lock ./
RUN python -m pip --python .venv/bin/python install --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE alembic.ini ./
COPY alembic alembic
COPY app app
# Editable, since the migrations are read from beside the package.
RUN python -m pip --python .venv/bin/python install --no-deps -e . && .venv/bin/python -m compileall -q app alembic

FROM python:3.12-slim-bookworm
RUN groupadd --gid 10001 billing && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin billing \
    && install -d -m 0700 -o billing -g billing /data
# Root's: the proxy can't change its own code.
COPY --from=build /srv /srv
WORKDIR /srv
# By number, so that whoever runs it can tell that it is not root.
USER 10001:10001
# All that is ever written is under DATA_DIR and /tmp, so that the root file system can be read-only.
ENV HOST=0.0.0.0 PORT=8000 DATA_DIR=/data PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 8000
# Alive, not ready: who replaces unhealthy containers must not replace those that wait for the database with their spool.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD [".venv/bin/python", "-ISc", "import os, sys, http.client as h; c = h.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/srv/.venv/bin/billing-proxy"]
CMD ["serve"]
