# The server of an exported model, run by a user without rights, and without PyTorch:
#
#     docker build -t ctrkit .
#     docker run -p 8000:8000 -v "$PWD/export:/model:ro" ctrkit
#
# Options of `ctrkit serve` follow the folder: docker run ... ctrkit /model --host 0.0.0.0 --workers 4

FROM python:3.11-slim AS build
COPY . /ctrkit
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /ctrkit

FROM python:3.11-slim
COPY constraints.txt /
COPY --from=build /wheels /wheels
# What a server imports; ctrkit's other packages train and evaluate models.
RUN pip install --no-cache-dir -c /constraints.txt \
        numpy scipy polars pyarrow safetensors numba pydantic pyyaml typer rich \
        onnxruntime fastapi "uvicorn[standard]" msgspec prometheus-client fsspec redis \
    && pip install --no-cache-dir --no-deps /wheels/*.whl \
    && useradd --create-home ctrkit
USER ctrkit
WORKDIR /home/ctrkit
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["ctrkit", "serve"]
CMD ["/model", "--host", "0.0.0.0"]
