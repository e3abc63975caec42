// Multiboot 1 (Multiboot Specification 0.6.96): the kernel is loaded by its header's addresses or as ELF, and begins in
// 32-bit protected mode with EAX = 0x2badb002 and EBX pointing to the information structure:
//
//     0 flags            which of the following are there
//     4 mem_lower        KiB of conventional memory        8 mem_upper       KiB from 1 MiB to the first hole
//    16 cmdline         20 mods_count  24 mods_addr       44 mmap_length  48 mmap_addr       64 boot_loader_name

import TrivisorVMM

/// Loads multiboot kernels, their modules and their information.
struct MultibootLoader {
  let request: BootRequest

  private var image: BootImage { request.image }
  /// 3.2 leaves the selectors open. Kernels that put their table in the place of the loader's and go on by the selectors that they
  /// began with have code and data first in it, behind the null descriptor.
  private static let codeSelector: UInt16 = 0x08, dataSelector: UInt16 = 0x10
  private static let bootMagic: UInt64 = 0x2bad_b002
  private static let loaderName = "Trivisor"

  func load(_ layout: inout GuestLayout) throws(BootFailure) -> LoadedGuest {
    let header = try MultibootHeader(try image.prefix(MultibootHeader.searchedBytes))
    var notes: [String]
    let entry: UInt64
    let kernelEnd: UInt64
    if let addresses = header.addresses {
      (entry, kernelEnd) = try loadByAddresses(addresses, headerOffset: header.offset, &layout)
      notes = [
        "multiboot, loaded at \(hexadecimal(UInt64(addresses.load))) as its header says, entry \(hexadecimal(entry))"
      ]
    } else {
      let placement = try ELFLoader(image: image).place(&layout)
      entry = placement.entry
      kernelEnd = placement.segments.map { $0.physicalAddress &+ $0.memorySize }.max() ?? 0
      notes = ["multiboot"] + placement.notes
    }
    guard let entry32 = UInt32(exactly: entry), kernelEnd <= 0x1_0000_0000 else {
      throw BootFailure(
        image.name,
        .unsupported(
          "a part of it lies above 4 GiB, where a multiboot kernel can't reach when it begins",
          remedy: "link it below 4 GiB"))
    }
    let modules = try loadModules(behind: kernelEnd, &layout)
    for (module, text) in zip(modules, request.modules) {
      notes.append("module \(text.image.name): \(module.end - module.base) bytes at \(hexadecimal(module.base))")
    }
    let information = try storeInformation(modules, &layout)
    var state = EntryState.protectedMode(entry: entry32, code: Self.codeSelector, data: Self.dataSelector)
    state.general.rax = Self.bootMagic
    state.general.rbx = information
    return LoadedGuest(
      kind: .multiboot, general: state.general, system: state.system, memoryMap: layout.map, notes: notes)
  }

  /// 3.1.3: the file from the header's distance to `load_addr` on, then the BSS.
  private func loadByAddresses(
    _ addresses: MultibootHeader.Addresses, headerOffset: Int, _ layout: inout GuestLayout
  ) throws(BootFailure) -> (entry: UInt64, end: UInt64) {
    func malformed(_ problem: String) -> BootFailure {
      BootFailure(image.name, .malformed(part: "the multiboot header", problem: problem))
    }
    let load = UInt64(addresses.load)
    let distance = UInt64(addresses.header).subtractingReportingOverflow(load)
    guard !distance.overflow, distance.partialValue <= headerOffset else {
      throw malformed(
        "says header_addr \(hexadecimal(UInt64(addresses.header))) and load_addr \(hexadecimal(load)), which do not fit"
          + " its offset \(hexadecimal(UInt64(headerOffset)))")
    }
    let fileOffset = UInt64(headerOffset) - distance.partialValue
    var size = image.size - fileOffset
    if addresses.loadEnd != 0 {
      guard addresses.loadEnd > addresses.load else { throw malformed("says a load_end_addr not above its load_addr") }
      size = UInt64(addresses.loadEnd) - load
    }
    let loadEnd = load + size
    var end = loadEnd
    if addresses.bssEnd != 0 {
      guard addresses.bssEnd >= loadEnd else { throw malformed("says a bss_end_addr below the end of what is loaded") }
      end = UInt64(addresses.bssEnd)
    }
    let entry = UInt64(addresses.entry)
    guard entry >= load, entry < end else { throw BootFailure(image.name, .entryOutsideImage(entry: entry)) }
    try layout.claim(load, size: end - load, for: "the kernel")
    try image.copy("the kernel", at: fileOffset, count: size, to: load, of: layout.memory)
    try layout.clear(loadEnd, size: end - loadEnd, as: "the kernel's BSS")
    return (entry, end)
  }

  private struct Module {
    let base: UInt64
    let end: UInt64
    let commandLine: String
  }

  private func loadModules(behind kernelEnd: UInt64, _ layout: inout GuestLayout) throws(BootFailure) -> [Module] {
    var modules: [Module] = []
    let low = max(kernelEnd, MemoryMap.extendedBase)
    for module in request.modules {
      let part = "module \(module.image.name)"
      var windows: [(Range<UInt64>, GuestLayout.Direction)] = [(GuestLayout.below4GiB, .upwards)]
      if low < GuestLayout.below4GiB.upperBound {
        windows.insert((low..<GuestLayout.below4GiB.upperBound, .upwards), at: 0)
      }
      let base = try layout.place(part, size: module.image.size, alignment: 4096, in: windows)
      try module.image.copy(part, at: 0, count: module.image.size, to: base, of: layout.memory)
      modules.append(Module(base: base, end: base + module.image.size, commandLine: module.commandLine))
    }
    return modules
  }

  /// 3.3. One block holds the structure and all that it points to.
  private func storeInformation(_ modules: [Module], _ layout: inout GuestLayout) throws(BootFailure) -> UInt64 {
    let structureSize = 116
    let moduleTable = structureSize
    let mapTable = moduleTable + modules.count * 16
    let mapSize = layout.map.entries.count * 24
    var texts = GuestRecord()
    texts.append(text: request.commandLine)
    let loaderNameOffset = texts.bytes.count
    texts.append(text: Self.loaderName)
    let moduleTexts = modules.map { module in
      let offset = texts.bytes.count
      texts.append(text: module.commandLine)
      return offset
    }
    let textTable = mapTable + mapSize
    let part = "the multiboot information"
    let base = try layout.placeStructure(part, size: UInt64(textTable + texts.bytes.count), alignment: 16)
    func address(_ offset: Int) -> UInt32 { UInt32(truncatingIfNeeded: base &+ UInt64(offset)) }

    let memoryFlag: UInt32 = 1 << 0
    let commandLineFlag: UInt32 = 1 << 2
    let modulesFlag: UInt32 = 1 << 3
    let mapFlag: UInt32 = 1 << 6
    let loaderNameFlag: UInt32 = 1 << 9
    var record = GuestRecord()
    record.put(memoryFlag | commandLineFlag | modulesFlag | mapFlag | loaderNameFlag, at: 0)
    let lower = layout.map.usableEnd(from: 0)
    let upper = layout.map.usableEnd(from: MemoryMap.extendedBase) - MemoryMap.extendedBase
    record.put(UInt32(clamping: lower >> 10), at: 4)
    record.put(UInt32(clamping: upper >> 10), at: 8)
    record.put(address(textTable), at: 16)
    record.put(UInt32(clamping: modules.count), at: 20)
    record.put(address(moduleTable), at: 24)
    record.put(UInt32(clamping: mapSize), at: 44)
    record.put(address(mapTable), at: 48)
    record.put(address(textTable + loaderNameOffset), at: 64)
    record.put(UInt32(0), at: structureSize - 4)
    for (module, textOffset) in zip(modules, moduleTexts) {
      record.append(UInt32(truncatingIfNeeded: module.base))
      record.append(UInt32(truncatingIfNeeded: module.end))
      record.append(address(textTable + textOffset))
      record.append(UInt32(0))
    }
    for entry in layout.map.entries {
      record.append(UInt32(20))
      record.append(entry.base)
      record.append(entry.size)
      record.append(entry.kind.rawValue)
    }
    try layout.store(record.bytes + texts.bytes, at: base, as: part)
    return base
  }
}
