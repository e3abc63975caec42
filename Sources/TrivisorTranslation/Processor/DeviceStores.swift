import Synchronization
import TrivisorVMM

/// Pages of translated code to which devices have stored.
///
/// The device's thread puts them here and then takes the processor's poll page away, all before the guest can learn of the
/// request's end; so the processor comes here before it runs another block. Nothing is missed when a page becomes code at
/// the same time: the device stores first and then asks whether it is code, the processor marks it first and then reads.
final class DeviceStores: MemoryWatcher {
  private let codePages: CodePages
  private let stop: TranslationStopHandle
  private let memory: PhysicalMemory
  private let pages = Mutex<[UInt64]>([])
  private let hasPages = Atomic<Bool>(false)

  init(_ codePages: CodePages, _ stop: TranslationStopHandle, _ memory: PhysicalMemory) {
    self.codePages = codePages
    self.stop = stop
    self.memory = memory
  }

  func deviceStored(at host: UnsafeMutableRawPointer, count: Int) {
    guard count > 0, let first = memory.physical(host) else { return }
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    let stored = (first >> 12...(first &+ UInt64(count - 1)) >> 12).filter { codePages.isCode($0) }
    guard !stored.isEmpty else { return }
    pages.withLock { $0 += stored }
    hasPages.store(true, ordering: .releasing)
    stop.kickFromOutside()
  }

  /// What was stored to since the last time.
  func take() -> [UInt64] {
    guard hasPages.load(ordering: .acquiring) else { return [] }
    return pages.withLock { pages in
      hasPages.store(false, ordering: .releasing)
      defer { pages = [] }
      return pages
    }
  }
}
