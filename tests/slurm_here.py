"""SLURM on this machine alone, from the system's packages, with all that it writes in one folder."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSTALL = "apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
GPUS = 2  # that it believes in
START_S = 20
CONFIGURATION = """ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SelectType=select/cons_tres
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES State=UP
"""


def missing() -> str | None:
    """Return why SLURM cannot be started here, or None."""
    if any(program(name) is None for name in PROGRAMS):
        return f"no SLURM here: {INSTALL}"
    return None if os.geteuid() == 0 else "its daemons are started as root"


def program(name: str) -> str | None:
    """Return where a program is."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens at."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in taken]
    finally:
        for each in taken:
            each.close()


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Run SLURM inside the block, and give it the environment in which its commands work."""
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname()
    written = CONFIGURATION.format(host=host, ports=free_ports(2), folder=folder, cores=os.cpu_count(), gpus=GPUS)
    (folder / "slurm.conf").write_text(written)
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    (folder / "key").write_bytes(secrets.token_bytes(1024))
    (folder / "key").chmod(0o400)
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    places = [f"--{name}-file={folder / name}" for name in ("key", "log", "seed")] + [f"--pid-file={folder / 'munge.pid'}"]
    daemons = [
        ["munged", "--foreground", "--force", f"--socket={folder / 'socket'}", *places],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    ]
    running: list[subprocess.Popen[bytes]] = []
    try:
        with open(folder / "daemons.log", "ab") as log:
            for name, *words in daemons:
                running.append(subprocess.Popen([program(name) or name, *words], env=environment, stdout=log, stderr=log))
                time.sleep(1)
        wait_until_idle(environment, folder / "daemons.log")
        yield environment
    finally:
        subprocess.run(["scancel", "--user=root"], env=environment, capture_output=True)
        for process in reversed(running):
            process.terminate()
            process.wait()


def wait_until_idle(environment: dict[str, str], log: Path) -> None:
    """Wait until the machine takes jobs."""
    end = time.monotonic() + START_S
    while "idle" not in subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True).stdout:
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)
