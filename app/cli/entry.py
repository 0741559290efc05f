"""Where the program begins. Ctrl-C ends it without a word while it is being loaded, as nothing has happened yet."""

import signal
from importlib import import_module


def main() -> None:
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else a shell has it ignored
    if is_ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    program = import_module("app.cli.main")
    if is_ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    program.main()
