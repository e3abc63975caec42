import TrivisorVMM

extension InstructionEmulation {
  /// A store of the kernel's into a last-level page table, carried out as an update (Xen's "writable page tables").
  /// - Returns: whether it was one that could be.
  func emulateTableStore(
    _ address: UInt64, _ leaf: PageTables.Leaf
  ) -> Bool {
    let table = PageTables.frame(leaf.entry)
    guard layout == .bits64, processor.mode == .kernel, address & 7 == 0, domain.memory.tables.use(table) == .table1,
      var instruction = GuestInstruction(processor.instructionBytes()), instruction.isWide,
      instruction.opcode == 0x89 || instruction.opcode == 0xc7 || instruction.opcode == 0x87,
      instruction.readModRM(), instruction.namesMemory
    else { return false }
    let hasImmediate = instruction.opcode == 0xc7
    guard instruction.address(registers, immediateSize: hasImmediate ? 4 : 0) == address else { return false }
    let position = address >> 3 & 511
    var value = registers.general(instruction.register)
    if hasImmediate {
      guard instruction.register & 7 == 0, let immediate = instruction.immediate32() else { return false }
      value = UInt64(bitPattern: Int64(immediate))
    }
    let old = domain.memory.frames.entry(table, position)?.pointee ?? 0
    guard (try? domain.memory.change(table, position, to: value)) != nil else { return false }
    if instruction.opcode == 0x87 { registers.setGeneral(instruction.register, old) }
    registers.rip &+= UInt64(instruction.position)
    return true
  }

  /// A load from the machine-to-physical table. Whether it was one.
  func emulateTableLoad(
    _ address: UInt64
  ) -> Bool {
    guard layout == .bits64, processor.mode == .kernel, address >= MachineToPhysicalTable.start64 else { return false }
    let frame = (address - MachineToPhysicalTable.start64) / 8
    guard frame < domain.memory.frames.all.upperBound, var instruction = GuestInstruction(processor.instructionBytes()),
      instruction.opcode == 0x8b, instruction.readModRM(), instruction.namesMemory,
      instruction.address(registers) == address
    else { return false }
    let entry = domain.memory.machineTable[frame] ?? .max
    let value = entry >> (address % 8 * 8)
    registers.setGeneral(instruction.register, instruction.isWide ? value : value & 0xffff_ffff)
    registers.rip &+= UInt64(instruction.position)
    return true
  }
}
