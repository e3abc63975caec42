"""How fast this host's time stamp counter runs.

A guest of QEMU's TCG reads the host's counter, and its kernel would learn the frequency by comparing it with the
emulated timer chip: on a loaded host that fails, or the kernel hangs. So we measure it and tell the guest.
"""

import ctypes
import mmap
import platform
import time

# rdtsc; shl rdx, 32; or rax, rdx; ret
_READ_COUNTER = bytes.fromhex("0f31 48c1e220 4809d0 c3")
_SHORTEST_SPAN = 0.03


class CounterFrequency:
    """Starts measuring when made; the longer until `kilohertz()` is asked for, the more exact it is."""

    def __init__(self):
        self._read = None
        if platform.machine() != "x86_64":
            return
        try:
            self._code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        except OSError:
            return  # a hardened host: the guest's kernel has to find out by itself
        self._code.write(_READ_COUNTER)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        self._read = ctypes.CFUNCTYPE(ctypes.c_uint64)(address)
        self._start = self._sample()

    def kilohertz(self):
        """The frequency, or None where it can't be measured."""
        if not self._read:
            return None
        end = self._sample()
        while end[0] - self._start[0] < _SHORTEST_SPAN * 1e9:
            time.sleep(0.005)
            end = self._sample()
        return round((end[1] - self._start[1]) * 1_000_000 / (end[0] - self._start[0]))

    def _sample(self):
        """Nanoseconds and counter read as closely together as a few attempts get them."""
        attempts = []
        for _ in range(5):
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
            counter = self._read()
            after = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
            attempts.append((after - before, (before + after) // 2, counter))
        return min(attempts)[1:]
