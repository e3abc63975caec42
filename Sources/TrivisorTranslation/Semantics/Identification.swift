import TrivisorCLinux
import Glibc
import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// What a processor says of itself, and numbers that it makes: CPUID, RDTSC, RDTSCP, RDPMC, RDRAND (AMD64 APM vol. 3).
struct Identification<Context: SystemContext> {
  let context: Context

  func execute(_ instruction: Instruction, next: UInt64) throws(Interruption) {
    switch instruction.operation {
    case .cpuid: identify()
    case .rdrand: drawRandom(instruction)
    case .rdpmc:
      // AMD's processors always have four counters, which here count nothing (`FamilyRegister`).
      guard context.cpl == 0 || context.cr4.contains(.performanceCounters), context.general(.rcx, size: 4) < 4 else {
        throw .exception(.general)
      }
      context.wideAccumulator = 0
    default:
      guard context.cpl == 0 || !context.cr4.contains(.timeStampDisable) else { throw .exception(.general) }
      context.wideAccumulator = context.timestamp
      if instruction.operation == .rdtscp { context[.rcx] = context.modelSpecific(MSR.timeStampAuxiliary) }
    }
    context.rip = next
  }

  /// Some of it depends on what is switched on.
  private func identify() {
    let function = UInt32(truncatingIfNeeded: context[.rax])
    let index = UInt32(truncatingIfNeeded: context[.rcx])
    var leaf = context.identification.leaf(function, index: index)
    if function == CPUIDTable.featureLeaf {
      if context.cr4.contains(.osXSAVE) { leaf?.ecx |= CPUIDTable.osXSAVE }
      if !context.hasLocalAPIC { leaf?.edx &= ~CPUIDTable.localAPIC }
    }
    if function == CPUIDTable.extendedFeatureLeaf, index == 0, context.cr4.contains(.protectionKeys) {
      leaf?.ecx |= CPUIDTable.osProtectionKeys
    }
    if function == CPUIDTable.extendedStateLeaf, index == 0 {
      leaf?.ebx = UInt32(ExtendedArea.size(context.xcr0))
    }
    context.setGeneral(.rax, UInt64(leaf?.eax ?? 0), size: 4)
    context.setGeneral(.rbx, UInt64(leaf?.ebx ?? 0), size: 4)
    context.setGeneral(.rcx, UInt64(leaf?.ecx ?? 0), size: 4)
    context.setGeneral(.rdx, UInt64(leaf?.edx ?? 0), size: 4)
  }

  private func drawRandom(_ instruction: Instruction) {
    var value: UInt64 = 0
    let count = withUnsafeMutableBytes(of: &value) { getrandom($0.baseAddress, $0.count, 0) }
    let isDrawn = count == MemoryLayout<UInt64>.size
    context.setGeneral(instruction.registerOfRM, isDrawn ? value : 0, size: Int(instruction.operandSize))
    context.arithmeticFlags = isDrawn ? .carry : []
  }
}
