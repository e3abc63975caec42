import TrivisorCLinux
import Glibc
import Synchronization
import SystemPackage
import TrivisorVMM

/// An edge-triggered interrupt: pulsed by the line, or through an eventfd once a technique has bound one to it.
final class InterruptTrigger: Sendable {
  let line: InterruptLine
  /// An eventfd, or negative.
  private let event = Atomic<Int32>(-1)

  init(_ line: InterruptLine) { self.line = line }

  deinit {
    let descriptor = event.load(ordering: .relaxed)
    if descriptor >= 0 { close(descriptor) }
  }

  func pulse() {
    let descriptor = event.load(ordering: .acquiring)
    if descriptor >= 0 {
      eventfd_write(descriptor, 1)
    } else {
      line.pulse()
    }
  }

  /// From now on through an eventfd. Once only.
  func bind(_ binding: any EventBinding) throws(TechniqueFailure) {
    guard event.load(ordering: .relaxed) < 0 else { return }
    let descriptor = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
    guard descriptor >= 0 else {
      throw TechniqueFailure(
        call: "eventfd", reason: Errno(rawValue: errno).description,
        remedy: "raise the limit of open files (ulimit -n)")
    }
    do throws(TechniqueFailure) {
      try binding.bindPulse(descriptor, to: line.number)
    } catch {
      close(descriptor)
      throw error
    }
    event.store(descriptor, ordering: .releasing)
  }
}
