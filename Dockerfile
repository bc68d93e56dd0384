FROM python:3.13-slim-trixie

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

# Not with urllib: a proxy that is set in the environment is not for this machine.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, http.client as h; c = h.HTTPConnection('127.0.0.1', int(os.environ.get('LISTEN_PORT') or 1234), timeout=2); c.request('GET', '/healthz'); exit(c.getresponse().status != 200)"]

CMD ["gunicorn"]
