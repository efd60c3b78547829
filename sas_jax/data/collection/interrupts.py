"""Ctrl-C that cannot be lost.

KeyboardInterrupt is raised wherever the main thread happens to be. In a finaliser, or
in a callback that C code calls, Python ignores what is raised, and the program goes on.
Who works in a loop can ask here whether that has happened.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def noticed() -> Iterator[Callable[[], None]]:
    """Yields a function that raises KeyboardInterrupt if Ctrl-C was pressed and lost.

    Where Ctrl-C does not raise KeyboardInterrupt, or not in this thread, it does
    nothing.
    """
    pressed = threading.Event()

    def press(number, frame):
        pressed.set()
        signal.default_int_handler(number, frame)

    def check() -> None:
        if pressed.is_set():
            raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not (is_main and usual):
        yield lambda: None
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
