# medlat with every package of requirements.lock, by hash. docker build -t medlat .
FROM python:3.11-slim-bookworm
WORKDIR /opt/medlat
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY medlat medlat
COPY conf conf
RUN pip install --no-cache-dir --no-deps --no-build-isolation .
# Runs, and the store, are left in the folder that is mounted at /work.
WORKDIR /work
ENTRYPOINT ["medlat"]
