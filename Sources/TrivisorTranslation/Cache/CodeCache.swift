import TrivisorCLinux
import TrivisorCWorldSwitch
import Glibc
import SystemPackage
import TrivisorVMM

/// Memory for translated code: one memfd, mapped twice, because no page here is ever both writable and executable. Where it can be
/// written is far from where it runs, at a place that does not follow from that: a guest that has got an address of the one has not
/// got the other.
///
/// It is filled from one end to the other; when it is full, everything is thrown away.
final class CodeCache: @unchecked Sendable {
  static let capacity = 128 << 20
  /// A block may need this much; below it the cache counts as full.
  static let reserve = 64 << 10

  private let writable: UnsafeMutablePointer<UInt8>
  let executable: UnsafeMutablePointer<UInt8>
  private var used = 0
  /// How far the host has been asked for memory. It is asked for many pages at once: each page that is touched fresh, and
  /// here that is once for writing and once for running, costs a fault, which takes longer than the page's block to translate.
  private var provided = 0
  private static let provision = 256 << 10
  private var commonSize = 0
  /// What leaves of blocks have in common, as addresses.
  private(set) var leaves = CommonLeaves()

  init() throws(TechniqueFailure) {
    let descriptor = memfd_create("trivisor-code", CLINUX_MFD_CLOEXEC)
    guard descriptor >= 0 else { throw Self.failure("memfd_create") }
    defer { close(descriptor) }
    guard ftruncate(descriptor, Self.capacity) == 0 else { throw Self.failure("ftruncate") }
    let write = GuardedMapping.map(Self.capacity, flags: MAP_SHARED, descriptor: descriptor, isFarAway: true)
    guard let write else { throw Self.failure("mmap of the code cache") }
    let execute = GuardedMapping.map(
      Self.capacity, protection: PROT_READ | PROT_EXEC, flags: MAP_SHARED, descriptor: descriptor)
    guard let execute else {
      let failure = Self.failure("mmap of the code cache for execution")
      GuardedMapping.unmap(write, Self.capacity)
      throw failure
    }
    madvise(write, Self.capacity, MADV_DONTDUMP)
    // Nor has a child that an embedder forks any use for it.
    madvise(write, Self.capacity, MADV_DONTFORK)
    madvise(execute, Self.capacity, MADV_DONTFORK)
    writable = write.assumingMemoryBound(to: UInt8.self)
    executable = execute.assumingMemoryBound(to: UInt8.self)
    writeCommonCode()
  }

  deinit {
    GuardedMapping.unmap(writable, Self.capacity)
    GuardedMapping.unmap(executable, Self.capacity)
  }

  private static func failure(_ call: String) -> TechniqueFailure {
    let error = Errno(rawValue: errno)
    let remedy = HostRemedy.of(error)
    return TechniqueFailure(
      call: call, reason: error.description,
      remedy: remedy.isEmpty
        ? "raise the process's limits (ulimit -v), and allow executable mappings of memory files" : remedy)
  }

  var isFull: Bool { used + Self.reserve > Self.capacity }

  /// For the next block.
  func emitter() -> Emitter {
    Emitter(
      cursor: writable + used, end: writable + Self.capacity,
      executableOffset: UnsafeRawPointer(executable) - UnsafeRawPointer(writable))
  }

  /// Where offsets count from.
  var base: UInt64 { UInt64(UInt(bitPattern: executable)) }

  func offset(_ address: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: address &- base) }

  /// Sets the jump whose operand is at `place`. Where others run it meanwhile, the operand lies within eight aligned bytes
  /// (`Emitter.alignOperand`), which change in one step.
  /// - Returns: whether it led elsewhere before.
  @discardableResult
  func patch(_ place: UInt32, to target: UInt64) -> Bool {
    let next = base &+ UInt64(place) &+ 4
    let old = UnsafeRawPointer(writable + Int(place)).loadUnaligned(as: UInt32.self)
    guard old != UInt32(truncatingIfNeeded: target &- next) else { return false }
    let bits = Int(place & 7) * 8
    guard bits <= 32 else {
      PatchPoint(place: writable + Int(place), next: next).patch(to: target)
      return true
    }
    let word = UnsafeMutableRawPointer(writable + Int(place & ~7)).assumingMemoryBound(to: UInt64.self)
    let offset = UInt64(UInt32(truncatingIfNeeded: target &- next))
    cws_store64(word, word.pointee & ~(0xffff_ffff << UInt64(bits)) | offset << UInt64(bits))
    return true
  }

  /// Sets the word at `place`, which a jump goes through or compares with; it is aligned.
  func set(_ place: UInt32, to target: UInt64) {
    cws_store64(UnsafeMutableRawPointer(writable + Int(place)).assumingMemoryBound(to: UInt64.self), target)
  }

  /// What was set there.
  func word(_ place: UInt32) -> UInt64 {
    UnsafeRawPointer(writable + Int(place)).load(as: UInt64.self)
  }

  /// Makes a dropped block's entry for look-ups lead to where RIP in the state block says: only jumps that have put it there
  /// still come here, and nothing goes on at what lies within the jump.
  func redirect(_ entry: UInt64) {
    let place = offset(entry)
    writable[Int(place)] = Emitter.jumpOpcode
    patch(place + 1, to: base)
  }

  /// Keeps what was written.
  func commit(_ emitter: Emitter) {
    used = (emitter.cursor - writable + 15) & ~15
    if used + Self.reserve > provided { provide() }
  }

  private func provide() {
    // A small guest shall not wait for what it will not use.
    let count = min(provided == 0 ? 2 * Self.reserve : Self.provision, Self.capacity - provided)
    guard count > 0 else { return }
    // A kernel that doesn't know this, or has nothing left, lets pages come one by one.
    madvise(writable + provided, count, CLINUX_MADV_POPULATE_WRITE)
    madvise(executable + provided, count, CLINUX_MADV_POPULATE_READ)
    provided += count
  }

  func removeAll() { used = commonSize }

  /// The code at the start of the cache, which stays. Dropped blocks' entries lead to its first byte.
  private func writeCommonCode() {
    var code = emitter()
    code.storeConstant32(UInt32(CWS_SITE_COMPLETE), .state(StateLayout.site))
    code.jump(.state(StateLayout.exitRAXFlags))
    leaves = CommonLeaves(writing: &code)
    commit(code)
    commonSize = used
  }
}
