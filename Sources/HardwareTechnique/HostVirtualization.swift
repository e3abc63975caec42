import CKVM
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
    if isVirtualMachine { notes.append("this host is itself a virtual machine, so KVM is nested") }
    notes.append("at most \(max(system.check(KVM_CAP_MAX_VCPUS), 1)) processors a machine")
    return notes
  }

  /// CPUID's hypervisor bit, as the kernel shows it.
  private static var isVirtualMachine: Bool {
    guard let file = fopen("/proc/cpuinfo", "r") else { return false }
    defer { fclose(file) }
    var line: UnsafeMutablePointer<CChar>?
    var capacity = 0
    defer { free(line) }
    while getline(&line, &capacity, file) > 0 {
      guard let line, strncmp(line, "flags", 5) == 0 else { continue }
      return strstr(line, " hypervisor") != nil
    }
    return false
  }
}
