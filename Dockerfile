# The server, on CPU or CUDA: statewise[serve] in the versions that CI tests. Models, certificates and keys are mounted, not built in.
#   docker build --target cpu -t statewise:cpu .
#   docker build --target cuda -t statewise:cuda .
# On this machine alone, to try it:
#   docker run --rm --read-only -e STATEWISE_INSECURE=true -p 127.0.0.1:8001:8001 -v "$PWD/var/repository:/repository:ro" statewise:cpu
# compose.yaml shows it with TLS, keys and all that goes with it.

FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY constraints.txt ./
RUN pip install --no-cache-dir -c constraints.txt hatchling
COPY LICENSE README.md pyproject.toml ./
COPY models models
COPY service service
RUN hatchling build --target wheel --directory /wheel

FROM python:3.11-slim-bookworm AS installed
WORKDIR /wheel
RUN python -m venv --without-pip /opt/statewise
COPY constraints.txt ./
COPY --from=wheel /wheel ./

FROM installed AS installed-cpu
RUN pip --python /opt/statewise/bin/python install --no-cache-dir -c constraints.txt "$(echo statewise-*.whl)[serve]" && \
    # What ONNX Runtime needs for a GPU alone: 270 MB.
    find /opt/statewise -name 'libonnxruntime_providers_cuda.so' -delete

FROM installed AS installed-cuda
RUN pip --python /opt/statewise/bin/python install --no-cache-dir -c constraints.txt "$(echo statewise-*.whl)[cuda]"

# What both have in common. pip and its like have done their work, and have no place in what listens to a network.
FROM python:3.11-slim-bookworm AS runtime
RUN pip uninstall --yes --root-user-action=ignore pip setuptools wheel && rm -rf /usr/local/lib/python3.11/ensurepip
# ONNX Runtime would otherwise report its use to its maker.
ENV PATH=/opt/statewise/bin:$PATH PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1 \
    STATEWISE_REPOSITORY=/repository STATEWISE_LISTEN=0.0.0.0:8001 STATEWISE_METRICS_LISTEN=0.0.0.0:8002 \
    STATEWISE_HEALTH_LISTEN=0.0.0.0:8003
WORKDIR /repository
EXPOSE 8001 8002 8003
STOPSIGNAL SIGTERM
# No HEALTHCHECK: Kubernetes asks grpc.health.v1 on port 8003.
ENTRYPOINT ["statewise"]
CMD ["serve"]

FROM runtime AS cuda
COPY --from=installed-cuda /opt/statewise /opt/statewise
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# The loader is told where the packages of the extra have put CUDA's libraries; the driver is the host's.
RUN find /opt/statewise -path '*/nvidia/*' -name '*.so.*' -printf '%h\n' | sort -u > /etc/ld.so.conf.d/statewise.conf && ldconfig
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility STATEWISE_PROVIDER=cuda
USER 10001:10001

# The last one is what `docker build .` makes.
FROM runtime AS cpu
COPY --from=installed-cpu /opt/statewise /opt/statewise
ENV STATEWISE_PROVIDER=cpu
USER 10001:10001
