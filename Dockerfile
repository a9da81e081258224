# The server, on CPU: statewise[serve] in the versions that CI tests. The models are mounted, not built in.
#   docker build -t statewise .
#   docker run -p 8001:8001 -p 8002:8002 -v "$PWD/var/repository:/repository:ro" statewise

FROM python:3.11-slim AS wheel
WORKDIR /source
COPY constraints.txt ./
RUN pip install --no-cache-dir -c constraints.txt hatchling
COPY LICENSE README.md pyproject.toml ./
COPY models models
COPY service service
RUN hatchling build --target wheel --directory /wheel

FROM python:3.11-slim AS installed
WORKDIR /wheel
RUN python -m venv --without-pip /opt/statewise
COPY constraints.txt ./
COPY --from=wheel /wheel ./
RUN pip --python /opt/statewise/bin/python install --no-cache-dir -c constraints.txt "$(echo statewise-*.whl)[serve]"

FROM python:3.11-slim
COPY --from=installed /opt/statewise /opt/statewise
# ONNX Runtime would otherwise report its use to its maker.
ENV PATH=/opt/statewise/bin:$PATH PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1
WORKDIR /repository
USER 10001:10001
EXPOSE 8001 8002
STOPSIGNAL SIGTERM
# No HEALTHCHECK: Kubernetes asks grpc.health.v1.
ENTRYPOINT ["statewise"]
CMD ["serve", "--listen", "0.0.0.0:8001", "--metrics-listen", "0.0.0.0:8002", "--repository", "/repository"]
