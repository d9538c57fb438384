# r1kit with torch for CPUs, and bubblewrap for problems with code. Not built by CI yet.
#   docker build -t r1kit . && docker run --rm -v "$PWD/runs:/work/runs" r1kit run demo
# The sandbox makes namespaces of its own: for problems with code add `--security-opt seccomp=unconfined`.
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends bubblewrap && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu .
WORKDIR /work
ENTRYPOINT ["r1"]
CMD ["--help"]
