"""Real servers on loopback: nodes, nginx, Redis, RabbitMQ.

Each has its own folder, ports and session, and ends with the process that started it,
however that ends. Only the standard library is needed, because `make run` uses it.
"""

import http.client
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parent.parent

# The only variables that a server inherits: a setting left over in a shell must not
# change what is run.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")

# nginx and others are in folders that Debian leaves out of a plain user's PATH.
_SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"))

WRITE_TOKEN = "only-for-the-lab"  # noqa: S105 - of nodes on loopback
"""What the nodes take for one, unless their settings say otherwise."""

_POLL, _SELDOM = 0.02, 0.1
"""Seconds between two questions, in the first seconds and later."""
_SOON = 3.0
_ports_given: set[int] = set()


class StartError(Exception):
    """A server did not come up; the message ends with the last lines of its log."""


def find(program: str) -> str | None:
    """Return where `program` is installed, or None."""
    return shutil.which(program, path=_SYSTEM_PATH)


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free and that this process was not given before.

    It lies below the range the system takes source ports from: otherwise, while a server is
    down, some client's connection could sit on its port. Each worker of pytest-xdist has a
    slice of its own: a port that one keeps for a server that is down is nobody else's.
    """
    lowest = 10_000
    try:
        first = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]
    except OSError:
        first = "0"
    below = int(first)
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    width = (below - lowest) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    for _ in range(1000):
        wanted = lowest + worker * width + random.randrange(width) if width > 500 else 0
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            port = int(probe.getsockname()[1])
        if port not in _ports_given:
            _ports_given.add(port)
            return port
    raise StartError("no free port on 127.0.0.1; stop some of what listens there")


class Server:
    """One server process with its children.

    `start` and `stop` may be called again and in turn, on the same folder and
    ports. Not thread-safe; different servers may be started from different threads.
    """

    def __init__(self, folder: Path, name: str, port: int | None = None) -> None:
        self.folder = Path(folder)
        self.name = name
        self.port = free_port() if port is None else port
        self.root = ROOT
        """The folder that the program is run in."""
        self.log = self.folder / "log"
        self._asked = False  # to end
        self._logged_before = 0  # bytes in the log from earlier runs
        self._process: subprocess.Popen[bytes] | None = None
        self._group: int | None = None  # None again once killed: its number may be reused
        self._watcher: subprocess.Popen[bytes] | None = None

    # Each kind of server defines these.

    def command(self) -> list[str]:
        """Return the program and its arguments; it must stay in the foreground."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return what is added to the few variables every server inherits."""
        return {}

    def prepare(self) -> None:
        """Write what the program reads when it starts."""

    def answers(self) -> bool:
        """Return whether it serves; may raise OSError instead of returning False."""
        raise NotImplementedError

    # These are the same for all.

    def launch(self) -> None:
        """Start the process without waiting for it to serve; `wait` does."""
        if self.running():
            raise StartError(f"{self.name} runs already; stop it first")
        self.kill()
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.prepare()
            with self.log.open("ab") as log:
                self._logged_before = log.tell()
                self._process = subprocess.Popen(
                    self.command(),
                    cwd=self.root,
                    env=inherited | self.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self._group = self._process.pid
            self._asked = False
            # Kills the group when this process ends, as its end of the pipe closes then.
            # PR_SET_PDEATHSIG cannot: it fires when the *thread* that started the server
            # ends, and spares the server's own children.
            self._watcher = subprocess.Popen(
                ["/bin/sh", "-c", 'read -r _ || kill -s KILL -- "-$0"', str(self._process.pid)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            self.kill()
            raise StartError(f"{self.name} cannot be run: {error}") from error
        except BaseException:
            self.kill()
            raise

    def wait(self, timeout: float = 30) -> None:
        """Return once it serves; if it ends or `timeout` seconds pass, kill it and raise."""
        try:
            self.wait_until(self.answers, "did not answer", timeout)
        except BaseException:
            self.kill()
            raise

    def wait_until(
        self, condition: Callable[[], bool], complaint: str, timeout: float = 30
    ) -> None:
        """Return once `condition` holds; raise if it ends or `timeout` seconds pass.

        No answer (OSError, HTTPException) is a condition that does not hold yet.
        """
        deadline = time.monotonic() + timeout
        while True:
            with suppress(OSError, http.client.HTTPException):
                if condition():
                    return
            ended = self.status()
            if ended is not None:
                raise StartError(f"{self.name} ended with status {ended}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} {complaint} within {timeout:g} s:\n{self.tail()}")
            # What takes long is not asked so often, or that alone would take a part of a processor.
            left = deadline - time.monotonic()
            time.sleep(_POLL if timeout - left < _SOON else _SELDOM)

    def start(self, timeout: float = 30) -> Self:
        """Launch it and wait until it serves; leaves nothing behind when it raises."""
        self.launch()
        self.wait(timeout)
        return self

    def terminate(self) -> None:
        """Ask it to end, without waiting: several servers then stop side by side."""
        if self._process is not None and self.running():
            self._signal_group(signal.SIGCONT)
            # Once a run: a second one could end a Python that is just exiting cleanly.
            if not self._asked:
                self._process.send_signal(signal.SIGTERM)
                self._asked = True

    def stop(self, timeout: float = 15) -> int | None:
        """End it, by force after `timeout` seconds; return its exit status (-9: by force).

        Does nothing when it does not run.
        """
        if self._process is not None and self.running():
            self.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
        self.kill()
        return self.status()

    def kill(self) -> None:
        """End it and all its children at once, as a power cut would."""
        if self._process is not None:
            self._signal_group(signal.SIGKILL)
            self._group = None
            self._process.wait()
        watcher, self._watcher = self._watcher, None
        if watcher is not None and watcher.stdin is not None:
            with suppress(BrokenPipeError):
                # A line instead of the end of file: the group id may be another's by now.
                watcher.stdin.write(b"\n")
                watcher.stdin.close()
            watcher.wait()

    def pause(self) -> None:
        """Freeze it: it keeps its connections and answers nothing."""
        self._signal_group(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue it after `pause`."""
        self._signal_group(signal.SIGCONT)

    def status(self) -> int | None:
        """Return the exit status of the last run; None while it runs or was never run."""
        return None if self._process is None else self._process.poll()

    def processes(self) -> list[int]:
        """Return the ids of its process and of that one's children."""
        if self._process is None:
            return []
        own = self._process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return [own, *map(int, children)]

    def memory(self) -> int:
        """Return the bytes of its processes that are resident."""
        return os.sysconf("SC_PAGE_SIZE") * sum(
            int(Path(f"/proc/{process}/statm").read_text().split()[1])
            for process in self.processes()
        )

    def processor_time(self) -> float:
        """Return the seconds of processor time that its processes have used."""
        ticks = 0
        for process in self.processes():
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def running(self) -> bool:
        """Return whether the process exists; it may be paused, or starting."""
        return self._process is not None and self._process.poll() is None

    def tail(self, lines: int = 15) -> str:
        """Return the last lines that the last run has logged."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(self._logged_before, self.log.stat().st_size - 16_384))
                text = log.read().decode(errors="replace")
        except OSError as error:
            return f"(no log: {error})"
        return "\n".join(text.rstrip().splitlines()[-lines:])

    def _signal_group(self, number: signal.Signals) -> None:
        if self._group is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._group, number)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class Node(Server):
    """A node of the cluster; its store is in `folder`.

    `settings` are its environment variables, beside NAME, LISTEN_PORT, DATA_DIR, NEW_VIDEOS (0)
    and WRITE_TOKEN; a value given there wins. `root` is the folder of its code, which may be
    another version's and may change between two runs. `gate` is a port that peers are told
    instead of its own: they reach it only through what listens there.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        *,
        root: Path = ROOT,
        gate: int | None = None,
    ) -> None:
        super().__init__(folder, name, port)
        self.root = root
        self.settings = dict(settings or {})
        self.gate = gate
        self.url = f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "gunicorn"]

    def environment(self) -> dict[str, str]:
        own = {
            "NAME": self.name,
            "LISTEN_HOST": "127.0.0.1",
            "LISTEN_PORT": str(self.port),
            "DATA_DIR": str(self.folder.resolve()),
            "PYTHONUNBUFFERED": "1",
            # Everything comes from one address here, and from as many videos as a test likes.
            "NEW_VIDEOS": "0",
            "WRITE_TOKEN": WRITE_TOKEN,
        }
        if self.gate is not None:
            # It tells peers its LISTEN_PORT, and gunicorn listens where the command line says.
            own["LISTEN_PORT"] = str(self.gate)
            own["GUNICORN_CMD_ARGS"] = f"--bind=127.0.0.1:{self.port}"
        return own | self.settings

    def answers(self) -> bool:
        return get(self.port, "/healthz") == 200

    def ready(self) -> bool:
        """Return whether it holds what its peers advertise."""
        with suppress(OSError, http.client.HTTPException):
            return get(self.port, "/readyz") == 200
        return False

    def wait_ready(self, timeout: float = 30) -> None:
        """Return once it is ready; raise after `timeout` seconds. It is left running."""
        self.wait_until(self.ready, "was not ready", timeout)


TOLD = ("BOTS", "REPEAT_WINDOW", "VIEWERS")
"""The settings of nodes that nginx has to know."""


class Nginx(Server):
    """The balancer: the files of balancer/, with other nodes and another port."""

    def __init__(
        self,
        folder: Path,
        backends: Sequence[str],
        port: int | None = None,
        limits: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Take the nodes as `host:port`. `limits` are texts of limits.conf and what they become.

        `settings` are those of the nodes that it has to know.
        """
        super().__init__(folder, "nginx", port)
        self.backends = list(backends)
        self._limits = dict(limits or {})
        self.settings = dict(settings or {})
        self.url = f"http://127.0.0.1:{self.port}"
        self.logs = self.folder.resolve() / "visits"

    def visit_log(self, number: int) -> Path:
        """Return the log that node `number`, from 1, follows, and create its folder."""
        self.logs.mkdir(parents=True, exist_ok=True)
        return self.logs / f"counter{number}.log"

    def reopen(self) -> None:
        """Make it reopen its logs, as after they were renamed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGUSR1)

    def prepare(self) -> None:
        source = ROOT / "balancer"
        whole = (source / "nginx.conf").read_text()
        conf, found = re.subn(r"listen 1234;", f"listen 127.0.0.1:{self.port};", whole)
        listed = (source / "nodes.conf").read_text()
        line = next((row for row in listed.splitlines() if "counter1:1234" in row), None)
        if found != 1 or line is None:
            raise StartError(
                "balancer/nginx.conf needs one `listen 1234;` and nodes.conf a line with"
                " `counter1:1234`: they are replaced by the ports of this run"
            )
        nodes = [line.replace("counter1:1234", backend) for backend in self.backends]
        (self.folder / "nginx.conf").write_text(conf)
        (self.folder / "nodes.conf").write_text("\n".join(nodes) + "\n")
        names = [self.visit_log(number).stem for number in range(1, len(nodes) + 1)]
        for file in ("split.conf", "logs.conf"):
            (self.folder / file).write_text(for_nodes((source / file).read_text(), names))
        limits = (source / "limits.conf").read_text()
        for text, other in self._limits.items():
            if text not in limits:
                raise StartError(f"balancer/limits.conf has no {text!r}, which this run changes")
            limits = limits.replace(text, other)
        (self.folder / "limits.conf").write_text(limits)
        lines = [f"{name} {value};\n" for name, value in self.settings.items()]
        (self.folder / "settings.conf").write_text("".join(lines))
        for name in ("again.html", "crawlers.conf"):
            shutil.copy(source / name, self.folder)
        (self.folder / "tmp").mkdir(exist_ok=True)

    def command(self) -> list[str]:
        extra = "daemon off;"
        if os.geteuid() == 0:
            # Else its workers become `nobody`, who may not read a temporary folder.
            extra += " user root;"
        program = find("nginx") or "nginx"
        prefix = f"{self.folder.resolve()}/"
        return [program, "-p", prefix, "-c", "nginx.conf", "-e", "stderr", "-g", extra]

    def answers(self) -> bool:
        # Nginx itself answers this one, whatever the nodes do: it is closed to the outside.
        return get(self.port, "/mesh") == 404


def for_nodes(conf: str, names: Sequence[str]) -> str:
    """Return balancer/split.conf or logs.conf, changed for other nodes.

    Each line that names a node is repeated for each node; a share is 1/n, the last the rest.
    """
    lines = []
    for line in conf.splitlines():
        share = re.fullmatch(r"( +)[0-9.]+%( +)counter1;", line)
        if "counter1" in line and not share and not line.startswith("#"):
            lines += [line.replace("counter1", name) for name in names]
        elif share:
            percent = f"{int(10_000 / len(names)) / 100:.2f}%"
            lines += [f"{share[1]}{percent}{share[2]}{name};" for name in names[:-1]]
            lines.append(f"{share[1]}{'*':<{len(percent)}}{share[2]}{names[-1]};")
        elif line.startswith("#") or not re.search(r"counter[0-9]", line):
            lines.append(line)
    return "\n".join(lines) + "\n"


class Redis(Server):
    """A Redis that keeps what it acknowledged: its append-only file is synced at every write.

    `options` are settings of its own, as in redis.conf.
    """

    def __init__(
        self, folder: Path, port: int | None = None, options: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(folder, "redis", port)
        self._options = dict(options or {})
        self.uri = f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        program = find("redis-server") or "redis-server"
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder.resolve()),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "daemonize": "no",
        } | self._options
        return [
            program,
            *(part for name, value in settings.items() for part in (f"--{name}", value)),
        ]

    def answers(self) -> bool:
        # -LOADING, while it reads its file, is no answer yet.
        return _exchange(self.port, b"PING\r\n").startswith(b"+PONG")


class _Epmd(Server):
    """Erlang's port mapper: a machine has one by default, here each broker has its own."""

    def command(self) -> list[str]:
        return [find("epmd") or "epmd", "-port", str(self.port), "-address", "127.0.0.1"]

    def answers(self) -> bool:
        # NAMES_REQ: the answer starts with the mapper's own port.
        return _exchange(self.port, b"\x00\x01n")[:4] == self.port.to_bytes(4)


class RabbitMQ(Server):
    """A broker without plugins; user and password are guest, from this machine only.

    `conf` is added to its rabbitmq.conf.
    """

    def __init__(self, folder: Path, port: int | None = None, conf: str = "") -> None:
        super().__init__(folder, "rabbitmq", port)
        self._conf = conf
        self.uri = f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"
        self._distribution = free_port()
        self._epmd = _Epmd(self.folder / "epmd", "epmd")

    def launch(self) -> None:
        # It outlives a killed broker, as the machine's own would.
        if not self._epmd.running():
            self._epmd.start()
        try:
            super().launch()
        except BaseException:
            self._epmd.stop()
            raise

    def wait(self, timeout: float = 60) -> None:
        try:
            super().wait(timeout)
        except BaseException:
            self._epmd.stop()
            raise

    def start(self, timeout: float = 60) -> Self:
        return super().start(timeout)

    def stop(self, timeout: float = 30) -> int | None:
        status = super().stop(timeout)
        self._epmd.stop()
        return status

    def prepare(self) -> None:
        (self.folder / "plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text(
            "listeners.tcp.1 = 127.0.0.1:" + str(self.port) + "\n"
            "vm_memory_high_watermark.absolute = 512MB\n"
            "disk_free_limit.absolute = 20MB\n" + self._conf
        )

    def command(self) -> list[str]:
        # Not Debian's wrapper in /usr/sbin: that one wants to become the user rabbitmq.
        return [find("/usr/lib/rabbitmq/bin/rabbitmq-server") or "rabbitmq-server"]

    def environment(self) -> dict[str, str]:
        folder = self.folder.resolve()
        return {
            "HOME": str(folder),  # the Erlang cookie
            "ERL_EPMD_PORT": str(self._epmd.port),
            "RABBITMQ_NODENAME": f"rabbit{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            # Two schedulers that sleep when idle: the broker shares the machine.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none"
            " -kernel inet_dist_use_interface {127,0,0,1}",
            # The script then becomes the Erlang process instead of its parent: signals
            # reach the broker itself.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def control(self, *arguments: str, timeout: float = 60) -> str:
        """Return what rabbitmqctl prints; the broker must be up. Raises `StartError`."""
        program = find("/usr/lib/rabbitmq/bin/rabbitmqctl") or "rabbitmqctl"
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        try:
            done = subprocess.run(
                [program, *arguments],
                env=inherited | self.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StartError(f"rabbitmqctl {arguments[0]}: {error}") from error
        if done.returncode:
            raise StartError(f"rabbitmqctl {arguments[0]}: {done.stderr or done.stdout}")
        return done.stdout

    def answers(self) -> bool:
        # The broker opens with Connection.Start, in a method frame (type 1).
        return _exchange(self.port, b"AMQP\x00\x00\x09\x01").startswith(b"\x01")


def get(port: int, path: str, timeout: float = 2) -> int:
    """Return the status of a GET on 127.0.0.1; raises OSError when there is no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def _exchange(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(request)
        return connection.recv(64)
