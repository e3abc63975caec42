/// What a technique needs to know of a machine: its processors and its memory.
///
/// Devices are not here: a technique only meets the bus.
public struct MachineConfiguration: Sendable, Equatable {
  /// Virtual processors, 1–255.
  public var processorCount: Int
  /// RAM in bytes, a multiple of the page size.
  public var memorySize: UInt64
  /// What CPUID says.
  public var processorModel: ProcessorModel
  /// Local APICs, I/O APIC, 8259s and 8254.
  public var interruptChips = InterruptChips.automatic

  /// Any values; `findings()` judges them.
  public init(processorCount: Int = 1, memorySize: UInt64 = 128 << 20, processorModel: ProcessorModel = .default) {
    self.processorCount = processorCount
    self.memorySize = memorySize
    self.processorModel = processorModel
  }

  /// The most processors that xAPIC identifiers allow.
  public static let maximumProcessorCount = 255
  /// The least memory that holds a PC's low megabyte and something above it.
  public static let minimumMemorySize: UInt64 = 2 << 20
  /// What the model's 40 physical address bits leave beside the device hole.
  public static let maximumMemorySize: UInt64 = (1 << 40) - (1 << 30)

  /// What no technique could honour.
  public func findings() -> [Finding] {
    var findings: [Finding] = []
    if !(1...Self.maximumProcessorCount).contains(processorCount) {
      findings.append(
        Finding(.processors, "\(processorCount) processors can't be had: ask for 1 to \(Self.maximumProcessorCount)"))
    }
    if memorySize < Self.minimumMemorySize || memorySize > Self.maximumMemorySize {
      findings.append(
        Finding(
          .memory,
          """
          \(memorySize) bytes of memory can't be had: ask for \(Self.minimumMemorySize >> 20) MiB to \
          \(Self.maximumMemorySize >> 30) GiB
          """))
    } else if memorySize % GuestMemory.pageSize != 0 {
      findings.append(
        Finding(.memory, "\(memorySize) bytes of memory is not a multiple of \(GuestMemory.pageSize): round it"))
    }
    return findings
  }
}

/// One request that can't be honoured.
public struct Finding: Sendable, Equatable, CustomStringConvertible {
  /// Which part of the configuration.
  public let subject: Setting
  /// What is wrong and what to do.
  public let message: Sentence

  /// - Parameters:
  ///   - subject: which part of the configuration.
  ///   - message: without a full stop.
  public init(_ subject: Setting, _ message: Sentence) {
    self.subject = subject
    self.message = message
  }

  /// The subject, then the message.
  public var sentence: Sentence { "\(subject): \(message)" }

  /// One sentence.
  public var description: String { sentence.description }
}
