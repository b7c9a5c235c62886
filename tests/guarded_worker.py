"""`lvlm-va`, several commands after each other, in a process that notes its sockets and the files it writes.

MNIST is what the cache holds.

Arguments: a file for the notes, as JSON, and the commands, as JSON.
"""

import json
import os
import socket
import sys
from pathlib import Path

SOCKETS: list[str] = []
WRITTEN: set[str] = set()
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def guard(event: str, arguments: tuple) -> None:
    if event == "socket.__new__":
        if arguments[1] != socket.AF_UNIX:  # asyncio's wake-up call; no network
            SOCKETS.append(f"{event} {arguments[1:]}")
    elif event.startswith("socket.") and getattr(arguments[0], "family", None) != socket.AF_UNIX:
        SOCKETS.append(f"{event} {arguments}")
    elif (event == "open" and (arguments[2] or 0) & WRITES) or event in ("os.mkdir", "sqlite3.connect"):
        WRITTEN.add(str(arguments[0]))


def written() -> set[str]:
    """Whole paths; a number is a descriptor that was open already."""
    return {str(Path.cwd() / path) for path in WRITTEN if not path.isdecimal()}


def no_routes() -> int | None:
    """How often the kernel found no way to a host: native code does not pass Python's hooks.

    None where the machine has a way out: then nothing is counted.
    """
    interfaces = Path("/proc/self/net/dev")
    if not interfaces.is_file() or len(interfaces.read_text().splitlines()) != 3:  # two of heading, and lo
        return None
    names, values = (
        line.split()
        for line in Path("/proc/self/net/snmp").read_text().splitlines()
        if line.startswith("Ip:")
    )
    return int(values[names.index("OutNoRoutes")])


def run(command: list[str]) -> int:
    from lvlm_va.cli import main as cli
    from lvlm_va.data import mnist

    mnist.SHA256 = {
        path.name: mnist.hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(os.environ["LVLM_VA_CACHE"], "mnist").iterdir())
    }
    sys.argv = ["lvlm-va", *command]
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)


def look_up(host: str) -> int:
    """What the guard has to see."""
    try:
        socket.getaddrinfo(host, 80)
    except OSError:
        return 1
    return 0


def main() -> None:
    notes, commands = Path(sys.argv[1]), json.loads(sys.argv[2])
    sys.addaudithook(guard)
    codes = [look_up(c[1]) if c[0] == "look-up" else run(c) for c in commands]
    found = {"codes": codes, "sockets": SOCKETS, "written": sorted(written()), "no_routes": no_routes()}
    notes.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
