"""The byte streams between the lab and this process's own standard streams.

Each stream is a virtio serial port in the lab and one end of a socket pair here. A port has no end-of-file towards the
host, so the lab's init writes a mark, random for each run, behind the last byte; the host takes it off again.
"""

import os
import queue
import signal
import socket
import termios
import threading
import time
import tty

_CHUNK = 1 << 16
# Typed three times in a row (Ctrl-] each), it ends the lab whatever the command does: all other keys are the command's.
_ESCAPE = 0x1D


class Sink(threading.Thread):
    """Copies what the lab sends to a descriptor of ours up to the mark, then puts itself into `events`."""

    def __init__(self, source, descriptor, mark, events):
        super().__init__(daemon=True)
        self._source, self._descriptor, self._mark, self._events = source, descriptor, mark, events
        self._waiting_since = None

    @property
    def silence(self):
        """For how many seconds the lab has had nothing to send; zero while it is us who can't write."""
        since = self._waiting_since
        return time.monotonic() - since if since else 0

    def run(self):
        held = b""
        try:
            while data := self._receive():
                held += data
                end = held.find(self._mark)
                ready = end if end >= 0 else len(held) - _overlap(held, self._mark)
                _write_all(self._descriptor, held[:ready])
                if end >= 0:
                    self._events.put(self)
                    return
                held = held[ready:]
        except BrokenPipeError:
            self._events.put(signal.SIGPIPE)
        except OSError as error:
            self._events.put(error)

    def _receive(self):
        self._waiting_since = time.monotonic()
        data = self._source.recv(_CHUNK)
        self._waiting_since = None
        return data


class Buffer(threading.Thread):
    """Takes what the lab's terminal sends as fast as it comes, because QEMU drops what a console can't get rid of."""

    def __init__(self, source):
        super().__init__(daemon=True)
        self._source, self._chunks = source, queue.SimpleQueue()
        self.start()

    def recv(self, _):
        return self._chunks.get()

    def run(self):
        data = b"-"
        while data:
            try:
                data = self._source.recv(_CHUNK)
            except OSError:
                data = b""
            self._chunks.put(data)


class Source(threading.Thread):
    """Copies our standard input to the lab, and its end."""

    def __init__(self, descriptor, destination, events):
        super().__init__(daemon=True)
        self._descriptor, self._destination, self._events = descriptor, destination, events
        self._is_terminal = os.isatty(descriptor)

    def run(self):
        escapes = 0
        try:
            while data := os.read(self._descriptor, _CHUNK):
                if self._is_terminal:
                    for byte in data:
                        escapes = escapes + 1 if byte == _ESCAPE else 0
                        if escapes == 3:
                            self._events.put(signal.SIGINT)
                self._destination.sendall(data)
        except OSError:
            pass  # our standard input is closed, or the lab is gone, which others notice
        try:
            self._destination.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class Lines(threading.Thread):
    """Puts each line that the lab's init says, split into words, into `events`."""

    def __init__(self, source, events):
        super().__init__(daemon=True)
        self._source, self._events = source, events

    def run(self):
        try:
            for line in self._source.makefile("r", errors="replace"):
                self._events.put(line.split())
        except OSError:
            pass  # the machine is gone, which others notice


class RawTerminal:
    """A terminal that passes every key on, from `enter` to `leave`."""

    def __init__(self, descriptor):
        self._descriptor = descriptor
        self._saved = None

    def enter(self):
        self._saved = termios.tcgetattr(self._descriptor)
        tty.setraw(self._descriptor, termios.TCSADRAIN)

    def leave(self):
        if self._saved:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._saved)


def is_our_terminal(descriptor):
    """Whether this process is in the foreground of a terminal, so that what is typed is for it."""
    return os.isatty(descriptor) and os.tcgetpgrp(descriptor) == os.getpgrp()


def _overlap(data, mark):
    """How many of the last bytes of `data` may be the beginning of `mark`."""
    return next((n for n in range(min(len(data), len(mark) - 1), 0, -1) if data.endswith(mark[:n])), 0)


def _write_all(descriptor, data):
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
