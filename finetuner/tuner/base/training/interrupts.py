"""Signals that end a training at a place where it can be continued."""

import os
import signal
import threading
from types import FrameType
from typing import Any, Self

__all__ = ["Interrupts"]

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Ctrl-C, schedulers and shutdowns, a closed terminal


class Interrupts:
    """Raises ``KeyboardInterrupt`` for Ctrl-C, SIGTERM and SIGHUP, but not in the middle of a step.

    Between :meth:`hold` and :meth:`release` a signal waits. A second one does not wait any more. Only the main thread
    gets signals; in any other thread this does nothing. A handler of the user's own is not replaced.

    Args:
        several: Whether several processes train together. Then nothing is raised: the processes ask :attr:`received`,
            and stop after the same step.

    Attributes:
        received: The number of the last signal; None if there was none.
    """

    def __init__(self, several: bool = False) -> None:
        self.several = several
        self.received: int | None = None
        self.held = self.pending = False
        self.previous: dict[int, Any] = {}
        self.process = os.getpid()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self.previous[number] = signal.signal(number, self.handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise ``KeyboardInterrupt``, at once or when :meth:`release` is called."""
        if os.getpid() != self.process:  # a worker that was forked from this process
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = number
        if self.several:
            return
        if self.held and not self.pending:
            self.pending = True
            return
        raise KeyboardInterrupt

    def hold(self) -> None:
        """Let signals wait."""
        self.held = True

    def release(self) -> None:
        """Raise ``KeyboardInterrupt`` if a signal has waited."""
        self.held = False
        if self.pending:
            self.pending = False
            raise KeyboardInterrupt
