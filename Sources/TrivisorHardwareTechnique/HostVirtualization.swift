import CKVM
import TrivisorCLinux
import Glibc

/// What kind of KVM this host has, in sentences for `doctor`.
enum HostVirtualization {
  /// One sentence a fact: vendor module, nested, limits.
  static func describe(system: KVMSystem) -> [String] {
    var notes: [String] = []
    let modules = ["kvm_amd", "kvm_intel", "kvm_pvm"].filter { access("/sys/module/\($0)", F_OK) == 0 }
    notes.append(
      modules.isEmpty
        ? "KVM's vendor module is built in or not visible" : "vendor module \(modules.joined(separator: ", "))")
    if clinux_is_virtual_machine() != 0 { notes.append("this host is itself a virtual machine, so KVM is nested") }
    notes.append("at most \(max(system.check(KVM_CAP_MAX_VCPUS), 1)) processors a machine")
    return notes
  }
}
