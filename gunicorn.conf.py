"""How gunicorn runs a node: in one worker process, which holds the counters.

Only this file knows gevent. `gunicorn` without arguments reads this file.
"""

import ctypes
import logging
import mmap
import os
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import gunicorn.arbiter
import gunicorn.http.message

from counter.config import KEEP_ALIVE, WORKER_CONNECTIONS, Config, ConfigError

try:
    _config = Config.from_environ(os.environ)
except ConfigError as error:
    print(f"counter: {error}", file=sys.stderr)
    sys.exit(2)

wsgi_app = "app:create_app()"
bind = [f"[{_config.listen_host}]" if ":" in _config.listen_host else _config.listen_host]
bind[0] += f":{_config.listen_port}"
workers = 1
worker_class = "gevent"
worker_connections = WORKER_CONNECTIONS
threads = 64  # used only with the gthread worker
keepalive = KEEP_ALIVE
# /counts takes 1,000 ids of 128 characters. gunicorn limits the setting to this constant; the only
# larger value that it offers is "unlimited".
gunicorn.http.message.MAX_REQUEST_LINE = limit_request_line = 160 * 1024
# Longer than the waits of a stop can add up to, shorter than compose's stop_grace_period.
graceful_timeout = int(_config.drain_time) + 22
timeout = 60
loglevel = "warning" if _config.log_level == "info" else _config.log_level
# Otherwise all nodes of a user would share one path for the socket.
control_socket_disable = True

# Each connection is a file; the usual soft limit of 1,024 would keep visitors out before
# `worker_connections` does.
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
_needed = WORKER_CONNECTIONS + 200
if 0 <= _hard < _needed:  # less than 0 is no limit
    print(
        f"counter: the limit of open files, {_hard}, is less than {_needed}: raise it "
        "(ulimit -Hn), or connections will be refused",
        file=sys.stderr,
    )
if 0 <= _soft < _needed:
    resource.setrlimit(resource.RLIMIT_NOFILE, (_hard if 0 <= _hard < _needed else _needed, _hard))

# glibc has a heap for each thread and keeps freed memory in it: with a million videos, a fifth of
# the node's memory. So use one heap, and trim it. Other C libraries have no mallopt and need none.
_M_TRIM_THRESHOLD, _M_ARENA_MAX = -1, -8
with suppress(AttributeError):
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, 1024 * 1024)

# While gunicorn stops, it measures its wait by the wall clock. When that was set forward meanwhile,
# the worker was killed while it handed over its last visits; when it was set back, gunicorn waited
# without end.
_steady = SimpleNamespace(**vars(time) | {"time": time.monotonic})
gunicorn.arbiter.time = _steady

_refused = mmap.mmap(-1, 1)  # shared by arbiter and worker


def post_worker_init(worker):
    """Start the node. From now on SIGTERM drains it before gunicorn stops the worker."""
    if "gevent" in worker.cfg.worker_class_str:
        from gunicorn.workers import ggevent

        ggevent.time = _steady
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("counter").setLevel(_config.log_level.upper())
    node = worker.wsgi.extensions["node"]
    leave = threading.Event()
    stop_worker = signal.getsignal(signal.SIGTERM)

    def end():
        _refused[0] = 1
        os.kill(os.getppid(), signal.SIGTERM)

    def drain():
        leave.wait()
        node.drain()
        stop_worker(signal.SIGTERM, None)

    threading.Thread(target=drain, name="drain", daemon=True).start()
    signal.signal(signal.SIGTERM, lambda _signal, _frame: leave.set())
    node.start(end, _offload(worker))


def worker_int(worker):
    """SIGINT, also after SIGTERM: cancel all waits."""
    worker.wsgi.extensions["node"].cancel_waits()


def worker_exit(_server, worker):
    """Stop the node, in the worker."""
    if worker.wsgi is not None:
        worker.wsgi.extensions["node"].stop()


def on_exit(_server):
    """End with status 2 if the node could not go on, so that it does not look like a clean stop."""
    if _refused[0]:
        sys.exit(2)


def _offload(worker):
    """A function that runs a blocking call outside gevent's loop; a plain call without gevent."""
    if "gevent" not in worker.cfg.worker_class_str:
        return lambda function, *arguments: function(*arguments)
    import gevent

    def outcome(function, arguments):
        # gevent prints an exception that leaves its pool. If printing fails, because the log is on
        # a full disk, the thread that waits for the call is never woken.
        try:
            return function(*arguments), None
        except Exception as error:
            return None, error

    def offload(function, *arguments):
        value, error = gevent.get_hub().threadpool.apply(outcome, (function, arguments))
        if error is not None:
            raise error
        return value

    return offload
