"""One child process: its command, its log, its end; and the ports that such processes listen on."""

import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.cluster.rig.errors import RigError


def reserve_port() -> int:
    """A free loopback port that the system will not hand to anybody else for a minute.

    A connection through the port is opened and closed from the server's side. That leaves the port in TIME_WAIT:
    a listener may still take it, since servers set SO_REUSEADDR, but no outgoing connection is given it meanwhile.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()
            client.recv(1)  # returns at the other side's end, so that side has closed first
    return port


ATTEMPTS = 3
COLLISION = "address already in use"


class Process:
    """A program with a log that can be started, stopped, killed and started again on the same command.

    It ends with the thread that started it, even if that dies without clean-up (`setpriv --pdeathsig`); start it from
    the test's own thread.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        """Nothing runs yet. `environment` None: the test's own; else exactly what is given."""
        self.name = name
        self.log = log
        self._command = tuple(command)
        self._environment = environment
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        """The process id (raises RigError when not running), for /proc and for signals of your own."""
        return self._alive().pid

    @property
    def exit_code(self) -> int | None:
        """How it ended (negative: by that signal); None while it runs or before its first start."""
        return self._child.poll() if self._child else None

    def start(self) -> None:
        """Start it; its output is added to the log."""
        if self.running:
            raise RigError(f"{self.name} runs already, as process {self.pid}")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                start_new_session=True,  # Ctrl-C ends the test, and the test ends its parts, in its own order
            )

    def stop(self, timeout_s: float = 10.0) -> int:
        """SIGTERM, and SIGKILL after `timeout_s`; returns the exit code. Fine on one that has ended already."""
        if self._child is None:
            return 0
        self._child.send_signal(signal.SIGTERM)  # does nothing to one that has ended
        self._child.send_signal(signal.SIGCONT)  # a paused one would not see the first
        try:
            return self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL, as by the kernel or a lost node; returns when it is gone."""
        if self._child is None:
            return 0
        self._child.kill()
        return self._child.wait()

    def restart(self) -> None:
        """stop() and start()."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, as with a hung peer."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after pause()."""
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it; RigError when it does not run."""
        self._alive().send_signal(number)

    def log_tail(self, lines: int = 12) -> str:
        """The last lines it wrote."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _alive(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            raise RigError(f"{self.name} does not run (exit code {self.exit_code}); its log ends:\n{self.log_tail()}")
        return self._child


def start_on_free_ports(place: Callable[[], Sequence[Process]], start: Callable[[], None]) -> None:
    """Lay processes out on reserved ports by place() and start them by start(); again if somebody was faster.

    On any failure those of the last place() are stopped before the error goes on.
    """
    for attempt in range(1, ATTEMPTS + 1):
        processes = place()
        try:
            start()
        except BaseException as error:
            for process in reversed(processes):
                process.stop()
            collided = any(COLLISION in process.log_tail(40).lower() for process in processes)
            if isinstance(error, RigError) and collided and attempt < ATTEMPTS:
                continue
            raise
        return


def ahead(process: int | str, nice: int) -> None:
    """Set the nice value of a process's scheduling group: where these are, that of a process counts only inside its session."""
    with suppress(OSError):
        Path(f"/proc/{process}/autogroup").write_text(str(nice), encoding="ascii")
