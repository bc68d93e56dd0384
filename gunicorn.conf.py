"""How gunicorn runs a node: in one worker process, which holds the counters.

Only this file and counter/edge.py know gevent. `gunicorn` without arguments reads this file.
"""

import ctypes
import errno
import logging
import mmap
import os
import resource
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import gunicorn.arbiter
import gunicorn.http.message
import gunicorn.workers.ggevent

from counter import edge
from counter.addresses import Places, Trusted
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
worker_class = edge.Worker
_trusted = Trusted(_config.trusted_proxies)
edge.Worker.places = Places(_config.address_connections, _trusted)
edge.Worker.bodies = Places(edge.ADDRESS_BODIES, _trusted, edge.ALL_BODIES)
# They are believed about the scheme, too.
forwarded_allow_ips = ",".join(_config.trusted_proxies)
# By one header: of another proxy in front, nginx hands on what it says in others, and gunicorn
# refuses headers that contradict each other.
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
worker_connections = WORKER_CONNECTIONS
threads = 64  # used only with the gthread worker
keepalive = KEEP_ALIVE
# /counts takes 1,000 ids of 128 characters. gunicorn limits the setting to this constant; the only
# larger value that it offers is "unlimited".
gunicorn.http.message.MAX_REQUEST_LINE = limit_request_line = 160 * 1024
gunicorn.http.RequestParser.mesg_class = edge.Head
limit_request_fields = edge.FIELDS
# Longer than the waits of a stop can add up to, shorter than compose's stop_grace_period.
graceful_timeout = int(_config.drain_time) + 22
timeout = 60
loglevel = "warning" if _config.log_level == "info" else _config.log_level
# The worker's heartbeat is an unnamed file. The root may be read-only, and a disk slow.
_memory = "/dev/shm"  # noqa: S108 - the file has a random name, and is removed at once
worker_tmp_dir = _memory if os.access(_memory, os.W_OK) else None
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


_PATIENCE = 5.0
"""Seconds that a start waits for the port, which the process before it may be just leaving."""


def pre_request(_worker, _request):
    """Nothing: gunicorn's own writes a line for debugging, at a cost for each visit."""


def on_starting(server):
    """End with status 1 and one sentence if the port cannot be had.

    gunicorn logs eleven lines. It binds the port itself, later; sockets that it was handed are
    bound already.
    """
    if {"GUNICORN_FD", "LISTEN_FDS"} & os.environ.keys():
        return
    deadline = time.monotonic() + _PATIENCE
    for address in server.cfg.address:
        while isinstance(address, tuple) and (why := _refusal_to_bind(*address[:2])):
            in_use = why == os.strerror(errno.EADDRINUSE)
            if not in_use or time.monotonic() >= deadline:
                remedy = "set LISTEN_HOST to an address of this machine, LISTEN_PORT to a free port"
                print(
                    f"counter: no node can listen on port {address[1]} of {address[0]} ({why}); "
                    + ("stop what listens there, or set another LISTEN_PORT" if in_use else remedy),
                    file=sys.stderr,
                )
                sys.exit(1)
            time.sleep(0.1)


def _refusal_to_bind(host, port):
    """Why nobody can listen at an address now; "" if one can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # What gunicorn does too: a port that only old connections linger on is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def post_worker_init(worker):
    """Start the node. From now on SIGTERM drains it before gunicorn stops the worker."""
    gunicorn.workers.ggevent.time = _steady
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
    if not isinstance(worker, edge.Worker):
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
