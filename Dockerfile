# The application: API, worker and command line, without the embedded servers. Postgres and Valkey are elsewhere.

FROM python:3.13-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

RUN python -m venv --without-pip /opt/carepost
WORKDIR /src

# Wheels only, so that no compiler is needed and no package runs code of its own to be installed.
COPY requirements/ requirements/
RUN pip --python /opt/carepost/bin/python install --require-hashes --only-binary :all: -r requirements/app.txt

COPY pyproject.toml README.md LICENSE ./
COPY mail/ mail/
COPY db/ db/
COPY workers/ workers/
COPY api/ api/
COPY carepost/ carepost/
# The build backend is fetched for this step alone; its versions and hashes are those of the developers' file.
RUN pip --python /opt/carepost/bin/python install --no-deps --build-constraint requirements/dev.txt .


FROM python:3.13-slim

RUN groupadd --system --gid 10001 carepost \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin carepost
COPY --from=build /opt/carepost /opt/carepost

# Bytecode was compiled at installation; nothing is written at run time, so the root may be read-only.
ENV PATH=/opt/carepost/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CAREPOST_HOST=0.0.0.0 \
    CAREPOST_PORT=8000 \
    CAREPOST_DATA_DIR=/tmp/carepost

# Not a folder that the user may write to: Python looks for modules where it stands.
WORKDIR /opt/carepost
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM

# For the API; a container that runs the worker or a command has nothing listening and switches it off.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['CAREPOST_PORT']), timeout=3); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]

ENTRYPOINT ["carepost"]
CMD ["api"]
