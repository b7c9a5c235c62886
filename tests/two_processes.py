"""Two processes as torchrun would start them, forked from this one, so that torch is imported once."""

import os
import socket
import sys
from collections.abc import Callable


def in_two_processes(life: Callable[[], object]) -> list[int]:
    """Let two processes live at once; how each ended, as `os.waitpid` says it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        if not (child := os.fork()):
            os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": "2"}
            os.environ |= {
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": f"{port}",
                "TORCHELASTIC_RUN_ID": "here",
            }
            try:
                life()
            except BaseException as error:
                print(f"{rank}: {type(error).__name__}: {error}")
                sys.stdout.flush()
                os._exit(1)
            os._exit(0)
        children.append(child)
    return [os.waitpid(child, 0)[1] for child in children]
