import CKVM
import TrivisorVMM

/// A `kvm_cpuid2` with room for its entries.
final class CPUIDList {
  let pointer: UnsafeMutablePointer<kvm_cpuid2>
  private let raw: UnsafeMutableRawPointer

  init(capacity: Int) {
    let size = MemoryLayout<kvm_cpuid2>.size + capacity * MemoryLayout<kvm_cpuid_entry2>.stride
    raw = .allocate(byteCount: size, alignment: 8)
    raw.initializeMemory(as: UInt8.self, repeating: 0, count: size)
    pointer = raw.bindMemory(to: kvm_cpuid2.self, capacity: 1)
    pointer.pointee.nent = UInt32(capacity)
  }

  convenience init(_ table: CPUIDTable) {
    self.init(capacity: table.leaves.count)
    for (position, leaf) in table.leaves.enumerated() {
      var entry = kvm_cpuid_entry2()
      entry.function = leaf.function
      entry.index = leaf.index
      entry.flags = leaf.isIndexed ? UInt32(KVM_CPUID_FLAG_SIGNIFCANT_INDEX) : 0
      (entry.eax, entry.ebx, entry.ecx, entry.edx) = (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx)
      kvm_cpuid2_entries(pointer)[position] = entry
    }
  }

  deinit { raw.deallocate() }

  var table: CPUIDTable {
    let entries = UnsafeBufferPointer(start: kvm_cpuid2_entries(pointer), count: Int(pointer.pointee.nent))
    return CPUIDTable(
      leaves: entries.map { entry in
        let isIndexed = entry.flags & UInt32(KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0
        return CPUIDLeaf(
          entry.function, index: isIndexed ? entry.index : nil, eax: entry.eax, ebx: entry.ebx, ecx: entry.ecx,
          edx: entry.edx)
      })
  }
}
