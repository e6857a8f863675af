# Two stages: the first installs what is pinned, the second has no compiler, no cache and no root.

FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/candour
WORKDIR /src
COPY requirements/ requirements/
RUN /opt/candour/bin/pip install --require-hashes -r requirements/run.txt
COPY pyproject.toml README.md ./
COPY app/ app/
COPY migrations/ migrations/
# The build backend stays here: a second environment makes the wheel that the first one installs.
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes -r requirements/build.txt \
 && /opt/build/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /opt/wheels . \
 && /opt/candour/bin/pip install --no-deps --no-index /opt/wheels/*.whl

FROM python:3.11-slim
# The embedded PostgreSQL looks its user up by name.
RUN useradd --uid 10001 --user-group --home-dir /var/lib/candour --create-home --shell /usr/sbin/nologin candour
COPY --from=build /opt/candour /opt/candour
ENV PATH=/opt/candour/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    CANDOUR_HOME=/var/lib/candour \
    CANDOUR_HOST=0.0.0.0
USER 10001
WORKDIR /var/lib/candour
VOLUME /var/lib/candour
EXPOSE 8080
# The first start makes a database before it answers.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["candour", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["candour"]
CMD ["serve"]
