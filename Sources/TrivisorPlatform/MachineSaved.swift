// A machine as a value: what a snapshot stores, a clone starts from, and another technique goes on with.

import TrivisorDevices
import TrivisorVMM

/// A whole machine between two instructions. Not in it: its configuration, which whoever restores it must have, and what is
/// on its disks.
public struct MachineSaved: SavedState {
  /// Raised when a part is added or means something else; devices have numbers of their own.
  public static let version = 2

  /// What of the configuration it depends on.
  struct Kind: Codable, Sendable, Equatable {
    var processorCount: Int
    var memorySize: UInt64
    var processorModel: String
  }

  var kind: Kind
  /// Guest memory, by far the largest part.
  public var memory: GuestMemory.Saved
  var processors: [MachineState]
  var partition: any SavedState
  var devices: DevicesSaved

  private enum Field: String, CodingKey {
    case kind, memory, processors, partition, devices
  }

  private static let techniqueKey = CodingUserInfoKey(rawValue: "trivisor.technique")

  /// Tells a decoder, by its `userInfo`, under which technique the machine was saved: the partition's part is its own.
  public static func provide(_ technique: any Technique, to userInfo: inout [CodingUserInfoKey: any Sendable]) {
    if let key = techniqueKey { userInfo[key] = technique }
  }

  init(
    kind: Kind, memory: GuestMemory.Saved, processors: [MachineState], partition: any SavedState, devices: DevicesSaved
  ) {
    self.kind = kind
    self.memory = memory
    self.processors = processors
    self.partition = partition
    self.devices = devices
  }

  /// - Throws: `RestoreFailure` without a technique that can be saved, or the decoder's error.
  public init(from decoder: any Decoder) throws {
    let technique = Self.techniqueKey.flatMap { decoder.userInfo[$0] } as? any Technique
    guard let type = technique?.savedPartition else {
      throw RestoreFailure("machine", "no technique that can restore one was given to the decoder")
    }
    let fields = try decoder.container(keyedBy: Field.self)
    kind = try fields.decode(Kind.self, forKey: .kind)
    memory = try fields.decode(Versioned<GuestMemory.Saved>.self, forKey: .memory).state
    processors = try fields.decode([Versioned<MachineState>].self, forKey: .processors).map(\.state)
    partition = try Self.decode(type, from: fields)
    devices = try fields.decode(DevicesSaved.self, forKey: .devices)
  }

  private static func decode<State: SavedState>(
    _ type: State.Type, from fields: KeyedDecodingContainer<Field>
  ) throws -> any SavedState {
    try fields.decode(Versioned<State>.self, forKey: .partition).state
  }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: Field.self)
    try fields.encode(kind, forKey: .kind)
    try fields.encode(Versioned(memory), forKey: .memory)
    try fields.encode(processors.map { Versioned($0) }, forKey: .processors)
    try Self.encode(partition, to: &fields)
    try fields.encode(devices, forKey: .devices)
  }

  private static func encode<State: SavedState>(
    _ state: State, to fields: inout KeyedEncodingContainer<Field>
  ) throws {
    try fields.encode(Versioned(state), forKey: .partition)
  }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public static func == (lhs: Self, rhs: Self) -> Bool {
    func isEqual<State: SavedState>(_ state: State, _ other: any SavedState) -> Bool { state == other as? State }
    return lhs.kind == rhs.kind && lhs.memory == rhs.memory && lhs.processors == rhs.processors
      && isEqual(lhs.partition, rhs.partition) && lhs.devices == rhs.devices
  }
}

/// The devices on a machine's bus, each with the number of its form.
struct DevicesSaved: Codable, Sendable, Equatable {
  var serialPorts: [Versioned<SerialPort16550.Saved>]
  var consoleWatches: [Versioned<ConsoleWatch.Saved>]
  var standard: StandardPorts.Saved
  var test: TestDevices.Saved?
  var virtio: VirtioBus.Saved
  /// Of each disk, what the guest has written apart from its image.
  var disks: [Versioned<DiskChanges.Saved>?]
}
