// /dev/kvm: opened, its version and abilities checked by name, its refusals turned into sentences.

import CKVM
import TrivisorCLinux
import Glibc
import Synchronization
import SystemPackage
import TrivisorVMM

/// The host's KVM.
final class KVMSystem: Sendable {
  /// Of /dev/kvm.
  let descriptor: OwnedDescriptor
  /// Bytes of the structure that KVM shares for each processor.
  let runSize: Int
  private let cpuid = Mutex<CPUIDTable?>(nil)

  /// - Throws: `TechniqueFailure` when there is no KVM, it may not be used, or it lacks something that is needed.
  init(path: String = "/dev/kvm") throws(TechniqueFailure) {
    let raw = open(path, O_RDWR | O_CLOEXEC)
    guard raw >= 0 else { throw Self.openFailure(path, Errno(rawValue: errno)) }
    descriptor = OwnedDescriptor(raw)
    let version = kvm_get_api_version(raw)
    guard version == KVM_API_VERSION else {
      throw TechniqueFailure(
        call: "KVM_GET_API_VERSION",
        reason: version < 0 ? "\(path) is not a KVM device" : "KVM speaks version \(version), not \(KVM_API_VERSION)",
        remedy: "use a host kernel of version 2.6.22 or later")
    }
    for capability in KVMCapability.required where kvm_check_extension(raw, capability.number) <= 0 {
      throw TechniqueFailure(
        call: "KVM_CHECK_EXTENSION", reason: "this host's KVM lacks \(capability.name) (\(capability.purpose))",
        remedy: "use a newer host kernel, or change \(Setting.technique)")
    }
    runSize = Int(try kvm("KVM_GET_VCPU_MMAP_SIZE", kvm_get_vcpu_mmap_size(raw)))
  }

  /// What an optional ability amounts to; zero where it is missing.
  func check(_ capability: Int32) -> Int { Int(max(0, kvm_check_extension(descriptor.raw, UInt(capability)))) }

  /// Everything that this KVM can show a guest by CPUID; asked once.
  func supportedCPUID() throws(TechniqueFailure) -> CPUIDTable {
    if let known = cpuid.withLock({ $0 }) { return known }
    let table = try readSupportedCPUID()
    cpuid.withLock { $0 = table }
    return table
  }

  private func readSupportedCPUID() throws(TechniqueFailure) -> CPUIDTable {
    var capacity = 128
    while true {
      let list = CPUIDList(capacity: capacity)
      let result = kvm_get_supported_cpuid(descriptor.raw, list.pointer)
      if result == -E2BIG, capacity < 4096 {
        capacity *= 2
        continue
      }
      _ = try kvm("KVM_GET_SUPPORTED_CPUID", result)
      return list.table
    }
  }

  /// The MSRs that this KVM lets us read and write.
  func modelSpecificRegisterIndices() throws(TechniqueFailure) -> Set<UInt32> {
    let capacity = 1024
    let size = MemoryLayout<kvm_msr_list>.size + capacity * MemoryLayout<UInt32>.stride
    let raw = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 8)
    defer { raw.deallocate() }
    let list = raw.bindMemory(to: kvm_msr_list.self, capacity: 1)
    list.pointee.nmsrs = UInt32(capacity)
    _ = try kvm("KVM_GET_MSR_INDEX_LIST", kvm_get_msr_index_list(descriptor.raw, list))
    return Set(UnsafeBufferPointer(start: kvm_msr_list_indices(list), count: Int(list.pointee.nmsrs)))
  }

  /// A new virtual machine's descriptor.
  func makeMachine() throws(TechniqueFailure) -> OwnedDescriptor {
    let result = retryingInterrupts { kvm_create_vm(descriptor.raw, 0) }
    if result == -EBUSY {
      throw TechniqueFailure(
        call: "KVM_CREATE_VM", reason: Errno(rawValue: EBUSY).description,
        remedy:
          "another hypervisor holds the processor's virtualization extension: stop it, or change \(Setting.technique)"
      )
    }
    return OwnedDescriptor(try kvm("KVM_CREATE_VM", result))
  }

  private static func openFailure(_ path: String, _ error: Errno) -> TechniqueFailure {
    let remedy: Sentence =
      switch error {
      case .noSuchFileOrDirectory, .noSuchAddressOrDevice:
        """
        load kvm_amd or kvm_intel, enable virtualization in the firmware or the cloud instance, or pass \(path) into \
        the container; without KVM, change \(Setting.technique)
        """
      case .permissionDenied, .notPermitted:
        "join the group that owns it (usermod -aG kvm USER, then log in again), or change \(Setting.technique)"
      case .tooManyOpenFiles, .tooManyOpenFilesInSystem, .noMemory: HostRemedy.of(error)
      default: "see dmesg for what KVM says, or change \(Setting.technique)"
      }
    return TechniqueFailure(call: "open \(path)", reason: error.description, remedy: remedy)
  }
}

/// A file descriptor that is closed with its owner.
final class OwnedDescriptor: Sendable {
  let raw: Int32
  init(_ raw: Int32) { self.raw = raw }
  deinit { close(raw) }
}

/// The result of an ioctl, or a failure that names it.
func kvm(_ call: String, _ result: Int32) throws(TechniqueFailure) -> Int32 {
  guard result < 0 else { return result }
  let error = Errno(rawValue: -result)
  throw TechniqueFailure(call: call, reason: error.description, remedy: HostRemedy.of(error))
}

/// Calls again while a signal interrupts the call: KVM_CREATE_VM and its like may take milliseconds.
func retryingInterrupts(_ call: () -> Int32) -> Int32 {
  while true {
    let result = call()
    if result != -EINTR { return result }
  }
}
