"""The virtual camera and the server, as processes."""

import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import time
import uuid
from pathlib import Path

from footage import TEMPLATE

HERE = Path(__file__).parent
DEVICE, STREAM = "camera", "main"
TICKS = os.sysconf("SC_CLK_TCK")
# As large as what `build` had in its place.
ORDERS_BYTES = 8 << 20
POLL_SECONDS = 0.02
# On a host that does much else besides.
PATIENCE_SECONDS = 900


class Machine:
    """One life of the camera, from its power on to its power cut."""

    def __init__(self, folder, card, orders, log):
        self.log = log
        log.write_bytes(b"")
        self.process = subprocess.Popen(
            [HERE / "camera", folder, card.image, orders, "-incoming", f"exec:cat {folder}/awake"]
            + ["-monitor", "stdio", "-serial", f"file:{log}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self.nudged = 0.0

    def said(self):
        return self.log.read_text(errors="replace")

    def reaches(self, what, seconds=PATIENCE_SECONDS):
        """Waits until it has said something."""
        deadline = time.monotonic() + seconds
        while what not in (said := self.said()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"waiting for `{what}`: it said: {said[-4000:]}")
            # It was kept asleep, and would not hear it before its memory is there.
            if "rig:" not in said and time.monotonic() > self.nudged + 0.3:
                self.nudged = time.monotonic()
                self.process.stdin.write("cont\n")
                self.process.stdin.flush()
            time.sleep(POLL_SECONDS)

    def worked(self):
        """Seconds of a processor that it took so far: how far it is, however busy the host is."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def wait(self, until, seconds=PATIENCE_SECONDS):
        deadline = time.monotonic() + seconds
        while not until():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"it does not get there; it said: {self.said()[-4000:]}")
            time.sleep(POLL_SECONDS)

    def cut(self):
        """Takes its power away."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    stop = cut


def write_orders(path, file_system, port, plan, anew):
    """The tar that `init` reads. `plan` are pairs of a path and what is to be appended to it."""
    agent = f"""
device = "{DEVICE}"
[broker]
url = "mqtt://10.0.2.2:{port}"
[card]
root = "/card"
[clock]
believe = "names"
[[stream]]
id = "{STREAM}"
path = "{STREAM}"
template = "{TEMPLATE}"
time_zone = "UTC"
"""
    lines = "".join(f"{file} {len(piece)}\n" for file, piece in plan)
    files = {
        "file_system": file_system.encode(),
        "agent.toml": agent.encode(),
        "boot_id": str(uuid.uuid4()).encode() + b"\n",
        "plan": lines.encode(),
        "footage": b"".join(piece for _, piece in plan),
    }
    if anew:
        files["anew"] = b""
    with tarfile.open(path, "w") as orders:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            orders.addfile(entry, io.BytesIO(content))
    if path.stat().st_size > ORDERS_BYTES:
        raise RuntimeError("more is to be recorded than fits")
    os.truncate(path, ORDERS_BYTES)


class Server:
    """mosquitto and `gapless`, with an archive that lacks most of what the card holds."""

    def __init__(self, gapless, folder, expected_from, kbit_per_second):
        self.gapless, self.folder = gapless, folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n"
        )
        (folder / "gapless.toml").write_text(f"""
[server]
state_dir = "state"
[broker]
url = "mqtt://127.0.0.1:{self.port}"
[http]
listen = "off"
[archive]
root = "archive"
template = "{TEMPLATE}"
time_zone = "UTC"
seam_margin_ms = 0
[pull]
min_free_mib = 64
kbit_per_second_per_device = {kbit_per_second}
[[device]]
id = "{DEVICE}"
streams = ["{STREAM}"]
expected_from = "{expected_from}"
""")
        self.archive = folder / "archive" / DEVICE / STREAM
        self.archive.mkdir(parents=True)
        self.originals = set()
        self.running = [self._start("mosquitto", "-c", folder / "mosquitto.conf")]

    def _start(self, *command):
        log = open(self.folder / f"{Path(command[0]).name}.log", "ab")
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def record(self, name, content):
        """A recording of the central recorder's own."""
        (self.archive / name).write_bytes(content)
        self.originals.add(name)

    def serve(self):
        self.running.append(self._start(self.gapless, "--config", self.folder / "gapless.toml", "serve"))

    def ask(self, *command):
        arguments = [self.gapless, "--config", self.folder / "gapless.toml", *command, "--json"]
        done = subprocess.run(arguments, capture_output=True, text=True)
        return json.loads(done.stdout) if done.stdout else []

    def pieces(self):
        names = (path.name for path in self.archive.iterdir() if not path.name.startswith("."))
        return [self.archive / name for name in sorted(names) if name not in self.originals]

    def pulled_bytes(self):
        """What has arrived, merged or not yet."""
        total = 0
        spool = self.folder / "state/spool"
        for path in [*self.pieces(), *(spool.rglob("*") if spool.exists() else [])]:
            try:
                total += path.stat().st_size
            except FileNotFoundError:
                pass
        return total

    def stop(self):
        for process in reversed(self.running):
            process.terminate()
            process.wait()
