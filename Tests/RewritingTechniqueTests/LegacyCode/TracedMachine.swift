import TrivisorCLinux
import TrivisorCTracedProcess
import Glibc

/// What both machines start from and end with.
struct LegacyCodeState {
  var general = [UInt64](repeating: 0, count: 16)
  var rip: UInt64 = 0
  var flags: UInt64 = 0x202
  /// ES, CS, SS, DS, FS, GS.
  var selectors = [UInt16](repeating: 0, count: 6)
  /// FXSAVE's layout.
  var floating = [UInt8](repeating: 0, count: 512)
}

/// Why a machine stopped, in the terms of Linux' signals.
struct LegacyCodeEnd: Equatable {
  var signal: Int32
  /// Of a page fault.
  var address: UInt64?
}

/// The process that runs instructions natively.
final class TracedMachine {
  let memory: UnsafeMutableRawPointer
  private let process: Int32
  /// The child has ended and its number may be another's.
  private var isLost = false

  init?() {
    let size = Int(LegacyCodeLayout.size)
    let descriptor = memfd_create("native", 0)
    guard descriptor >= 0, ftruncate(descriptor, off_t(size)) == 0 else { return nil }
    defer { close(descriptor) }
    guard let mapping = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), mapping != MAP_FAILED
    else { return nil }
    let segments = LegacyCodeLayout.segments.map(\.native)
    let started = ctp_start(
      descriptor, LegacyCodeLayout.ranges, Int32(LegacyCodeLayout.ranges.count), segments, Int32(segments.count))
    guard started > 1 else {
      munmap(mapping, size)
      return nil
    }
    memory = mapping
    process = started
  }

  deinit {
    if !isLost { ctp_end(process) }
    munmap(memory, Int(LegacyCodeLayout.size))
  }

  /// - Returns: `nil` if the child is lost.
  func run(_ start: LegacyCodeState) -> (LegacyCodeState, LegacyCodeEnd)? {
    var state = ctp_state()
    withUnsafeMutableBytes(of: &state.general) { $0.copyBytes(from: start.general.flatMap(Self.bytes)) }
    withUnsafeMutableBytes(of: &state.selectors) { $0.copyBytes(from: start.selectors.flatMap(Self.bytes)) }
    withUnsafeMutableBytes(of: &state.fx) { $0.copyBytes(from: start.floating) }
    (state.rip, state.rflags) = (start.rip, start.flags)
    state.fs_base = LegacyCodeLayout.base(start.selectors[4])
    state.gs_base = LegacyCodeLayout.base(start.selectors[5])
    var result = ctp_result()
    guard !isLost else { return nil }
    guard ctp_run(process, &state, &result) == 0 else {
      isLost = true
      return nil
    }
    var end = LegacyCodeState()
    withUnsafeBytes(of: state.general) { end.general = Array($0.bindMemory(to: UInt64.self)) }
    withUnsafeBytes(of: state.selectors) { end.selectors = Array($0.bindMemory(to: UInt16.self)) }
    withUnsafeBytes(of: state.fx) { end.floating = Array($0) }
    (end.rip, end.flags) = (state.rip, state.rflags)
    // SEGV_MAPERR and SEGV_ACCERR.
    let isPageFault = result.signal == SIGSEGV && (result.code == 1 || result.code == 2)
    return (end, LegacyCodeEnd(signal: result.signal, address: isPageFault ? result.address : nil))
  }

  private static func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }
}
