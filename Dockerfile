FROM python:3.11-slim-bookworm

WORKDIR /app

# A layer of its own, rebuilt only when the requirements change.
COPY requirements.txt .
RUN pip install --no-cache-dir --disable-pip-version-check -r requirements.txt

RUN useradd --system --uid 10001 --no-create-home counter \
    && install -d -o counter -g counter /data
COPY . .

ENV LISTEN_HOST=0.0.0.0 \
    LISTEN_PORT=1234 \
    DATA_DIR=/data \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

USER counter
VOLUME /data
EXPOSE 1234
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['LISTEN_PORT'] + '/healthz', timeout=2)"]

CMD ["gunicorn"]
