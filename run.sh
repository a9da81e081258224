export PYTHONPATH=/tmp/core/service:/tmp/core/models
cd /tmp/core && exec /work/main/.venv/bin/python -m pytest "$@"
