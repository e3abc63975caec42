// A machine instance to and from a value.

import TrivisorDevices
import TrivisorVMM

extension MachineInstance {
  static func kind(of machine: MachineConfiguration) -> MachineSaved.Kind {
    MachineSaved.Kind(
      processorCount: machine.processorCount, memorySize: machine.memorySize,
      processorModel: machine.processorModel.name)
  }

  /// All of it, while the processors stand by their owner's wish. Devices with threads are held meanwhile.
  /// - Throws: `TechniqueFailure` when the technique's partition can't be saved, the guest runs a command for the host, the
  ///   processors don't stand, or the host refuses to tell their state.
  func save() throws(TechniqueFailure) -> MachineSaved {
    func refusal(_ reason: String) -> TechniqueFailure { TechniqueFailure(call: "saving the machine", reason: reason) }
    guard let partition = partition.restorable else { throw refusal("machines under this technique can't be saved") }
    guard !runsCommand else { throw refusal(Self.commandReason) }
    virtio.hold()
    defer { virtio.release() }
    // The partition behind the processors: its clock must not be behind what a processor has read.
    let processors = try threads.readStates()
    var disks: [Versioned<DiskChanges.Saved>?] = []
    do throws(DeviceFailure) {
      for changes in diskChanges {
        disks.append(try changes.map { changes throws(DeviceFailure) in Versioned(try changes.save()) })
      }
    } catch { throw refusal(error.description) }
    let devices = DevicesSaved(
      serialPorts: serialPorts.map { Versioned($0.save()) },
      consoleWatches: consoleWatches.map { Versioned($0.save()) },
      standard: standardPorts.save(), test: testDevices?.save(), virtio: virtio.save(),
      disks: disks)
    return MachineSaved(
      kind: Self.kind(of: machine), memory: memory.save(), processors: processors, partition: partition.save(),
      devices: devices)
  }

  /// The command's streams belong to the process that gave the order.
  private static let commandReason = "a command's input and output are half in the process that ordered it"

  /// Whether a saved machine can be one of this configuration, as far as can be said without a machine.
  static func check(
    _ saved: MachineSaved, for configuration: PlatformConfiguration
  ) throws(RestoreFailure) {
    try restoring("machine", requires: configuration.command == nil, commandReason)
    let (own, other) = (kind(of: configuration.machine), saved.kind)
    try restoring(
      "machine", requires: own == other,
      "it has \(other.processorCount) processors \(other.processorModel) and \(other.memorySize) bytes of memory, and the "
        + "configuration says \(own.processorCount) processors \(own.processorModel) and \(own.memorySize) bytes")
    try restoring(
      "machine", requires: saved.processors.count == own.processorCount,
      "it has the states of \(saved.processors.count) processors, not of \(own.processorCount)")
    for state in saved.processors { try state.check() }
  }

  /// Everything but the processors, which take their states when they are made.
  func restore(_ saved: MachineSaved) throws(RestoreFailure) {
    guard let partition = partition.restorable else {
      throw RestoreFailure("machine", "machines under this technique can't be restored")
    }
    let devices = saved.devices
    try restoring(
      "machine",
      requires: devices.serialPorts.count == serialPorts.count && devices.consoleWatches.count == consoleWatches.count,
      "it has \(devices.serialPorts.count) serial ports and \(devices.consoleWatches.count) consoles, and the "
        + "configuration says \(serialPorts.count) and \(consoleWatches.count)")
    try restoring(
      "machine",
      requires: devices.disks.count == diskChanges.count
        && zip(devices.disks, diskChanges).allSatisfy { ($0 == nil) == ($1 == nil) },
      "its disks are snapshots where the configuration's are not, or the other way round")
    for (changes, state) in zip(diskChanges, devices.disks) {
      if let state { try changes?.restore(state.state) }
    }
    try memory.restore(saved.memory)
    try partition.restore(anyState: saved.partition)
    for (device, state) in zip(serialPorts, devices.serialPorts) { try device.restore(state.state) }
    for (watch, state) in zip(consoleWatches, devices.consoleWatches) { try watch.restore(state.state) }
    try standardPorts.restore(devices.standard)
    try restoring(
      "machine", requires: (devices.test == nil) == (testDevices == nil),
      "it has \(devices.test == nil ? "no " : "")test devices, and the configuration says otherwise")
    if let test = devices.test { try testDevices?.restore(test) }
    try virtio.restore(devices.virtio)
  }
}
