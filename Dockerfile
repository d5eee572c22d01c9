# Build with `docker build -t dispatcher .`; docker-compose.yml runs all parts from this one image.

FROM python:3.13-slim AS build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PROJECT_ENVIRONMENT=/opt/dispatcher UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir "uv>=0.13,<0.14"
WORKDIR /build
COPY pyproject.toml uv.lock ./
RUN uv sync --locked --no-install-project
COPY README.md LICENSE ./
COPY dispatcher dispatcher
COPY workers workers
COPY templates templates
RUN uv sync --locked --no-editable

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/dispatcher --create-home --shell /usr/sbin/nologin dispatcher
COPY --from=build /opt/dispatcher /opt/dispatcher
ENV PATH=/opt/dispatcher/bin:$PATH PYTHONUNBUFFERED=1 DISPATCHER_DATA_DIR=/var/lib/dispatcher DISPATCHER_LOG=json
USER dispatcher
WORKDIR /var/lib/dispatcher
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["dispatcher"]
CMD ["web", "--host", "0.0.0.0", "--port", "8000"]
