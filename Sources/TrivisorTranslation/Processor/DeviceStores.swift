import Synchronization
import TrivisorVMM

/// Pages of translated code to which devices have stored.
///
/// The device's thread puts them here and then takes the processors' poll pages away, all before the guest can learn of the
/// request's end; so a processor comes here before any of them runs another block. Nothing is missed when a page becomes code at
/// the same time: the device stores first and then asks whether it is code, the processor marks it first and then reads.
final class DeviceStores: MemoryWatcher {
  private let codePages: CodePages
  private let stops = Mutex<[TranslationStopHandle]>([])
  private let memory: PhysicalMemory
  private let pages = Mutex<[UInt64]>([])
  private let hasPages = Atomic<Bool>(false)

  init(_ codePages: CodePages, _ memory: PhysicalMemory) {
    self.codePages = codePages
    self.memory = memory
  }

  func deviceStored(at host: UnsafeMutableRawPointer, count: Int) {
    guard count > 0, let first = memory.physical(host) else { return }
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    let stored = (first >> 12...(first &+ UInt64(count - 1)) >> 12).filter { codePages.isCode($0) }
    guard !stored.isEmpty else { return }
    pages.withLock { $0 += stored }
    hasPages.store(true, ordering: .releasing)
    for stop in stops.withLock({ $0 }) { stop.kickFromOutside() }
  }

  /// A processor that is to come here from now on.
  func connect(_ stop: TranslationStopHandle) { stops.withLock { $0.append(stop) } }

  /// One that is gone.
  /// - Returns: whether it was the last one.
  func disconnect(_ stop: TranslationStopHandle) -> Bool {
    stops.withLock { stops in
      stops.removeAll { $0 === stop }
      return stops.isEmpty
    }
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
