extension BootImage {
  /// Whether it is an ELF program that needs a dynamic linker.
  /// - Throws: `BootFailure` when it is no ELF file.
  public func needsInterpreter() throws(BootFailure) -> Bool {
    let header = try ELFHeader(try prefix(ELFHeader.maximumSize, as: "the ELF header"))
    let table = try read("the program header table", at: header.segmentTableOffset, count: header.segmentTableSize)
    // PT_INTERP.
    return try header.segments(table).contains { $0.type == 3 }
  }
}
