"""Simulated nodes: Linux network namespaces with their own host name, processes and mounts.

A bridge joins them. A Ray node on one of them can lose its link, its power or its folder as a real
node can. All of their processes and mounts end with the test.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from contextlib import suppress
from pathlib import Path

# Gives the node its own /dev/shm, host names and /tmp/ray. The first process reaps ended processes,
# as init does. Without a name server, look-ups of other host names fail at once; otherwise every
# start of Ray would wait ten seconds for an answer.
_START = """
hostname {name}
mount -t tmpfs tmpfs /dev/shm
printf '127.0.0.1 localhost\n{address} {name}\n' > /dev/shm/hosts
mount --bind /dev/shm/hosts /etc/hosts
: > /dev/shm/resolv.conf
mount --bind /dev/shm/resolv.conf /etc/resolv.conf
mkdir -p /tmp/ray
mount -t tmpfs tmpfs /tmp/ray
echo on
sleep infinity & wait
"""
_SPACES = ["--net", "--uts", "--ipc", "--mount", "--pid"]


class Unavailable(Exception):
    """Simulated nodes cannot be created on this machine."""


class Network:
    """A bridge with simulated nodes; the host machine has the first address."""

    def __init__(self) -> None:
        token = secrets.token_bytes(2)
        self.subnet, self.bridge = f"10.{token[0]}.{token[1]}", f"ps{token.hex()}"
        self.machines: list[Machine] = []

    def __enter__(self) -> Network:
        if os.geteuid() != 0:
            raise Unavailable("simulated nodes need root")
        try:
            _run("ip", "link", "add", self.bridge, "type", "bridge")
            _run("ip", "address", "add", f"{self.subnet}.1/24", "dev", self.bridge)
            _run("ip", "link", "set", self.bridge, "up")
            self.machine("probe").off()
        except (OSError, subprocess.CalledProcessError) as error:
            self.__exit__()
            reason = getattr(error, "stderr", "") or error
            raise Unavailable(f"simulated nodes cannot be created here: {reason}") from error
        return self

    def __exit__(self, *exception: object) -> None:
        for machine in self.machines:
            machine.off()
        subprocess.run(["ip", "link", "delete", self.bridge], capture_output=True)

    def machine(self, name: str) -> Machine:
        """Starts a simulated node."""
        machine = Machine(self, name, len(self.machines) + 2)
        self.machines.append(machine)
        return machine


class Machine:
    """A running simulated node.

    Attributes
    ----------
    address : IP address of the node.
    """

    def __init__(self, network: Network, name: str, number: int) -> None:
        self.name, self.address = name, f"{network.subnet}.{number}"
        self._link = f"{network.bridge}m{number}"
        # The node ends with the test process, even if that is killed.
        bound = ["setpriv", "--pdeathsig", "KILL"]
        apart = ["unshare", *_SPACES, "--mount-proc", "--fork", "--kill-child"]
        self._process = subprocess.Popen(
            [*bound, *apart, "bash", "-ec", _START.format(name=name, address=self.address)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "on\n":
            raise OSError(self._process.communicate()[1].strip())
        pid = self._process.pid
        self.first = Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()
        peer = ["type", "veth", "peer", "name", "eth0", "netns", self.first]
        _run("ip", "link", "add", self._link, *peer)
        _run("ip", "link", "set", self._link, "master", network.bridge, "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "link", "set", "lo", "up")
        # Programs find their own address through the default route.
        self.run("ip", "route", "add", "default", "via", f"{network.subnet}.1")

    def command(self, *words: str | Path) -> list[str]:
        """The command line that runs a command on the node."""
        return ["nsenter", "--target", self.first, *_SPACES, "--", *map(str, words)]

    def run(self, *words: str | Path, **env: str) -> str:
        """Runs a command on the node to its end and returns its output."""
        # An earlier test may have set variables for a Ray on a single machine.
        own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return _run(*self.command(*words), env=own | env)

    def cut(self) -> None:
        """Cuts the network link: packets are lost silently."""
        _run("ip", "link", "set", self._link, "down")

    def mend(self) -> None:
        """Restores the network link."""
        _run("ip", "link", "set", self._link, "up")

    def freeze(self) -> None:
        """Stops every process but the first, as if the node hung because it swaps."""
        self.run("sh", "-c", "kill -STOP -1")

    def thaw(self) -> None:
        """Resumes the stopped processes."""
        self.run("sh", "-c", "kill -CONT -1")

    def off(self) -> None:
        """Cuts the power: all processes end at once."""
        self._process.kill()
        self._process.communicate()
        with suppress(subprocess.CalledProcessError):
            _run("ip", "link", "delete", self._link)


def _run(*words: str, env: dict[str, str] | None = None) -> str:
    ended = subprocess.run(words, capture_output=True, text=True, timeout=300, env=env)
    if ended.returncode:
        said = ended.stdout + ended.stderr
        raise subprocess.CalledProcessError(ended.returncode, words, said, said)
    return ended.stdout
