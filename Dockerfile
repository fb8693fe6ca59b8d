# genledger as a container: every role is the same image with another command.
#
#   docker build -t genledger:0.1.0 .
#   docker run --rm -p 127.0.0.1:8787:8787 -v genledger:/data genledger:0.1.0
#
# Nothing is installed that requirements.lock does not name with a hash.

FROM python:3.11-slim-bookworm AS builder

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1
WORKDIR /src

# The tools that build (uv, setuptools) come from the lock as well, and stay in this stage.
COPY requirements.lock ./
RUN python -m venv /tools && /tools/bin/pip install --quiet --require-hashes -r requirements.lock

# The part of the lock that runs genledger, without its tests' and linters' packages. The versions and hashes
# are the lock's: a package that the lock lacks, or one with another hash, ends the build.
COPY pyproject.toml ./
RUN python -m venv --without-pip /opt/genledger \
 && /tools/bin/uv pip compile --quiet --no-annotate --no-header --constraint requirements.lock \
      --python /opt/genledger/bin/python --output-file runtime.txt pyproject.toml \
 && /tools/bin/uv pip install --quiet --python /opt/genledger/bin/python --require-hashes --no-build \
      --compile-bytecode --constraint requirements.lock -r runtime.txt

COPY README.md LICENSE ./
COPY streams streams
COPY projections projections
COPY genledger genledger
COPY migrations migrations
RUN /tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /tools/bin/uv pip install --quiet --python /opt/genledger/bin/python --no-deps --compile-bytecode /wheels/*.whl


FROM python:3.11-slim-bookworm

LABEL org.opencontainers.image.title="genledger" \
      org.opencontainers.image.description="Exact metering of LLM usage" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"

# A fixed uid, so that files of one image's volume are the next one's too.
RUN groupadd --system --gid 10001 genledger \
 && useradd --system --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin genledger \
 && install --directory --owner=10001 --group=10001 --mode=0750 /data

COPY --from=builder /opt/genledger /opt/genledger
COPY deploy/ready.py /opt/genledger/ready.py

# A sort of SQLite's that is too big for memory goes where there is room: /tmp may be small.
ENV PATH=/opt/genledger/bin:$PATH \
    SQLITE_TMPDIR=/data \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GENLEDGER_DATA=/data \
    GENLEDGER_METRICS_HOST=0.0.0.0

USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8787

# Of `serve`, the default command. A role of a cluster answers on its metrics port: docker-compose.yml.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "/opt/genledger/ready.py", "8787"]

ENTRYPOINT ["genledger"]
CMD ["serve", "--host", "0.0.0.0"]
