# syntax=docker/dockerfile:1
# docker build --tag=prithvi-tg .                                  for NVIDIA GPUs
# docker build --tag=prithvi-tg:cpu --build-arg DEVICE=cpu .       for CPUs, several gigabytes smaller
FROM python:3.11-slim

# Wheels of rasterio link to the system's libexpat, which slim images do not have.
RUN apt-get update && apt-get install --yes --no-install-recommends libexpat1 && rm -rf /var/lib/apt/lists/*

ARG DEVICE=cuda
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

# PyTorch, the largest layer, changes least. PyPI's wheels for Linux are those for CUDA.
RUN case "$DEVICE" in \
        cpu) pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu ;; \
        cuda) pip install torch torchvision ;; \
        *) echo "DEVICE=$DEVICE: choose cpu or cuda" >&2; exit 1 ;; \
    esac

# The other dependencies; this layer is built again only when one of these files changes.
WORKDIR /opt/dependencies
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY prithvi_tg/__init__.py prithvi_tg/
RUN pip install '.[sweep]'

WORKDIR /opt/prithvi_tg
COPY . .
RUN pip install --no-deps --force-reinstall .

# Not root. Any other user works, too: docker run --user "$(id -u):$(id -g)"; some libraries need a name, in USER.
RUN useradd --create-home user && install --directory --mode 1777 /work /cache
ENV HOME=/work USER=user HF_HOME=/cache/huggingface MPLCONFIGDIR=/tmp/matplotlib
USER user
WORKDIR /work
ENTRYPOINT ["prithvi-tg"]
CMD ["--help"]
