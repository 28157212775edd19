"""Run commands in a process whose every attempt to reach a network fails and is noted, with where it came from.

Called as a script: a JSON list of commands, the file to note attempts in. Prints the exit codes as JSON.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import traceback
from pathlib import Path


def forbid_network(notes):
    def forbidden(name):
        def fail(*arguments, **_options):
            where = "".join(traceback.format_stack(limit=14)[:-1])
            with Path(notes).open("a") as file:  # libraries may swallow the error
                file.write(f"{name} {arguments}\n{where}\n")
            raise OSError(101, "Network is unreachable")

        return fail

    def forbidden_beyond_this_machine(name):
        allowed, fail = getattr(socket.socket, name), forbidden(name)
        # Processes of one run hand files to one another through sockets that have no address.
        return lambda self, *a: allowed(self, *a) if self.family == socket.AF_UNIX else fail(self, *a)

    for name in ("connect", "connect_ex", "sendto", "sendmsg"):
        setattr(socket.socket, name, forbidden_beyond_this_machine(name))
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        setattr(socket, name, forbidden(name))


def main():
    commands, notes = json.loads(sys.argv[1]), sys.argv[2]
    os.environ.pop("HF_HUB_OFFLINE", None)
    forbid_network(notes)
    from scalselect.cli import main as scalselect

    codes = []
    for words in commands:
        try:
            codes.append(scalselect(words))
        except SystemExit as exited:
            codes.append(int(exited.code or 0))
    sys.stdout.flush()
    sys.stderr.write(f"\ncodes {json.dumps(codes)}\n")


if __name__ == "__main__":
    main()
