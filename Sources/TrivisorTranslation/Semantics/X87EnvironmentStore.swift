import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// FNSTENV and FNSAVE (AMD64 APM vol. 5; vol. 2, 11.4.3).
///
/// They never run natively: the environment holds the address of the last instruction, which here is one of the code cache.
struct X87EnvironmentStore<Context: InstructionContext> {
  let context: Context

  func execute(_ instruction: Instruction, next: UInt64) throws(Interruption) {
    guard context.cr0.isDisjoint(with: [.emulation, .taskSwitched]) else { throw .exception(.deviceNotAvailable) }
    guard let memory = instruction.memoryOperand else { throw .exception(.invalidOpcode) }
    let savesAll = instruction.operation == .fnsave
    let isShort = instruction.operandSize == 2
    let environment = isShort ? 14 : 28
    let count = environment + (savesAll ? 80 : 0)
    let address = try context.linear(memory, next, size: count, isWrite: true)
    context.saveX87()
    defer { context.loadX87() }
    let image = X87Image(context.x87Area)
    try context.withBytes(address, count: count, .write) { area throws(Interruption) in
      let words: InlineArray<3, UInt16> = [image.controlWord, image.statusWord, image.fullTags]
      for position in 0..<3 {
        if isShort {
          area.storeBytes(of: words[position], toByteOffset: 2 * position, as: UInt16.self)
        } else {
          // The upper halves are ones.
          area.storeBytes(of: 0xffff_0000 | UInt32(words[position]), toByteOffset: 4 * position, as: UInt32.self)
        }
      }
      let pointers = context.x87Pointers.environment(isReal: !context.usesDescriptors, isWide: !isShort)
      let place = isShort ? 6 : 12
      for position in 0..<(isShort ? 4 : 8) {
        area.storeBytes(of: pointers[position], toByteOffset: place + 2 * position, as: UInt16.self)
      }
      guard savesAll else { return }
      for number in 0..<8 {
        (area + environment + 10 * number).copyMemory(
          from: image.bytes + X87Image.registers + 16 * number, byteCount: 10)
      }
    }
    if savesAll {
      image.clear()
      context.x87Pointers = X87Pointers()
    } else {
      image.maskExceptions()
    }
    context.rip = next
  }
}
