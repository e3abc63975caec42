import TrivisorVMM

/// Calls about one subject, with what all of them need: the caller, its arguments, its memory.
///
/// Structures are read word by word, once each, and what was read is judged.
protocol HypercallSubject {
  /// The call.
  var call: Hypercall { get }
}

extension HypercallSubject {
  /// Who called.
  var processor: DomainProcessor { call.processor }
  var domain: Domain { call.processor.domain }
  var arguments: InlineArray<6, UInt64> { call.arguments }
  var layout: SharedLayout { domain.layout }
  var root: UInt64 { processor.kernelRoot }
  var memory: DomainMemory { domain.memory }
  var frames: MachineFrames { memory.frames }
  var tables: PageTables {
    get { memory.tables }
    nonmutating _modify { yield &memory.tables }
  }

  func byte(_ address: UInt64) throws(XenError) -> UInt8 {
    try memory.read(UInt8.self, address, root: root)
  }
  func short(_ address: UInt64) throws(XenError) -> UInt16 {
    try memory.read(UInt16.self, address, root: root)
  }
  func half(_ address: UInt64) throws(XenError) -> UInt32 {
    try memory.read(UInt32.self, address, root: root)
  }
  func quad(_ address: UInt64) throws(XenError) -> UInt64 {
    try memory.read(UInt64.self, address, root: root)
  }
  /// An unsigned long or a pointer.
  func long(_ address: UInt64) throws(XenError) -> UInt64 {
    layout == .bits64 ? try quad(address) : UInt64(try half(address))
  }
  func put<Value: FixedWidthInteger & BitwiseCopyable>(
    _ value: Value, _ address: UInt64
  ) throws(XenError) {
    try memory.write(value, to: address, root: root)
  }
  func putLong(_ value: UInt64, _ address: UInt64) throws(XenError) {
    if layout == .bits64 {
      try put(value, address)
    } else {
      try put(UInt32(truncatingIfNeeded: value), address)
    }
  }
}
