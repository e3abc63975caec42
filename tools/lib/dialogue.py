"""A conversation with a program over its standard input and output: wait for what a line says, then say something."""

import os
import re
import select
import subprocess
import time


class Dialogue:
    """What was said, as `output`; why it broke off, as `problem`, or nothing; the program's `status`."""

    def __init__(self, command, turns, limit, ends=True):
        """Runs the command; for each turn, a pair, waits for the regular expression and then writes the text.

        `limit` is in seconds, for the whole conversation; the program is ended (SIGKILL) when it is over. A program that
        never ends by itself (`ends`) is ended when all was said.
        """
        self.output, self.errors, self.problem = "", "", ""
        self._ends = time.monotonic() + limit
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.set_blocking(self._process.stdin.fileno(), False)
        try:
            position = 0
            for expected, answer in turns:
                match = self._wait(lambda: re.compile(expected).search(self.output, position))
                if not match:
                    self.problem = f"waited for {expected!r}"
                    break
                position = match.end()
                os.write(self._process.stdin.fileno(), answer.encode())
            if not self.problem and ends:
                self._wait(lambda: None)
        except OSError as error:
            self.problem = f"it does not listen: {error.strerror}"
        finally:
            if self._process.poll() is None and not self._closed():
                self.problem = self.problem or ("it did not end" if ends else "")
                self._process.kill()
            self._process.stdin.close()
            self.status = self._process.wait()

    def _closed(self):
        """Whether the program has closed its outputs and ends within a second."""
        if not self._streams():
            try:
                self._process.wait(1)
                return True
            except subprocess.TimeoutExpired:
                pass
        return False

    def _streams(self):
        return [stream for stream in (self._process.stdout, self._process.stderr) if not stream.closed]

    def _wait(self, found):
        """Reads until `found` gives something, which is returned, or the program says no more, or time is up."""
        while not (result := found()):
            streams = self._streams()
            left = self._ends - time.monotonic()
            if not streams or left <= 0:
                return None
            for stream in select.select(streams, [], [], left)[0]:
                data = os.read(stream.fileno(), 1 << 16)
                if not data:
                    stream.close()
                text = data.decode(errors="replace").replace("\r", "")
                if stream is self._process.stdout:
                    self.output += text
                else:
                    self.errors += text
        return result
