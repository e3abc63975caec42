import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// Who may use a port (AMD64 APM vol. 2, 12.2.4; vol. 1, 3.8.2): code inside IOPL, and others, virtual-8086 code always, by the
/// bitmap in the TSS.
struct PortPermission<Context: InstructionContext> {
  let context: Context

  @inline(__always)
  func check(_ port: UInt16, width: AccessWidth) throws(Interruption) {
    guard context.cpl != 0, context.isProtected, context.cpl > context.flags.ioPrivilege || context.isVirtual8086
    else { return }
    let task = context.task
    guard task.rights.systemType?.isWide == true, task.limit >= TaskStateSegment.lastByte else {
      throw .exception(.general)
    }
    let map = try context.loadTable(task.base &+ TaskStateSegment.permissionMap, size: 2)
    let place = map &+ UInt64(port) >> 3
    guard place &+ 1 <= UInt64(task.limit) else { throw .exception(.general) }
    let bits = try context.loadTable(task.base &+ place, size: 2)
    let mask: UInt64 = (1 << UInt64(width.rawValue)) - 1
    guard bits >> UInt64(port & 7) & mask == 0 else { throw .exception(.general) }
  }
}

/// IN and OUT (AMD64 APM vol. 3).
struct PortInstruction<Context: InstructionContext> {
  let context: Context

  @inline(__always)
  func execute(_ instruction: Instruction, next: UInt64) throws(Interruption) {
    let port =
      instruction.immediateSize != 0
      ? UInt16(truncatingIfNeeded: instruction.immediate & 0xff) : UInt16(truncatingIfNeeded: context[.rdx])
    let size = instruction.elementSize
    guard let width = AccessWidth(rawValue: size) else { throw .unsupported("instruction \(instruction.mnemonic)") }
    try PortPermission(context: context).check(port, width: width)
    context.notePortAccess(port, width: width)
    if instruction.operation == .in {
      context.setGeneral(.rax, context.readPort(port, width: width), size: size)
    } else if let reason = context.writePort(port, context.general(.rax, size: size), width: width) {
      context.rip = next
      throw .stop(reason)
    }
    context.rip = next
  }
}
