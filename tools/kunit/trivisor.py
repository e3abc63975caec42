# For kunit.py's --qemu_config: KUnit's tests in a kernel that trivisor runs, by qemu-system-trivisor, which must be in PATH.

from ..qemu_config import QemuArchParams

QEMU_ARCH = QemuArchParams(
    linux_arch="x86_64",
    kconfig="""
CONFIG_SERIAL_8250=y
CONFIG_SERIAL_8250_CONSOLE=y""",
    qemu_arch="trivisor",
    kernel_path="arch/x86/boot/bzImage",
    kernel_command_line="console=ttyS0",
    extra_qemu_params=[],
)
