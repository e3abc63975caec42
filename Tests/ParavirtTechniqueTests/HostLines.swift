import TrivisorSandbox
import Testing
import TrivisorVMM

/// The lines of `privileged` that are the host's, because native code executes the host's instructions: each may say only what
/// a processor of the host's vendor, with the host's features, has reason to.
enum HostLines {
  private static let undefined = "trapped: invalid opcode"
  private static let refused = "trapped: general protection, error code 0x0"

  /// The lines of an output that begin with a `*` and are none of what the host may say.
  static func surprising(in output: String, vendor: HostProcessor.Vendor, hasProtectionKeys: Bool) -> [String] {
    output.split(separator: "\n").map(String.init).filter { line in
      guard line.hasPrefix("user   *") || line.hasPrefix("kernel *") else { return false }
      let row = String(line.dropFirst(9))
      let name = String(row.prefix(12)).trimmingSuffix(" ")
      let result = String(row.dropFirst(12))
      return !allowed(name, vendor, hasProtectionKeys, inKernel: line.hasPrefix("kernel")).contains(result)
    }
  }

  private static func allowed(
    _ name: String, _ vendor: HostProcessor.Vendor, _ hasProtectionKeys: Bool, inKernel: Bool
  ) -> Set<String> {
    switch name {
    // AMD's instructions: privileged there (AMD64 APM vol. 3, chapter 4), of no meaning to Intel's processors.
    case "vmrun", "clgi": vendor == .amd ? [refused, undefined] : [undefined]
    // Privileged where it exists; AMD's processors have it only outside long mode.
    case "sysexit": [refused, undefined]
    // On Intel's it works, and where it leads to is Xen's callback or #GP.
    case "sysenter": vendor == .amd ? [undefined] : [undefined, refused]
    // Not privileged, where the system has enabled protection keys.
    case "rdpkru": hasProtectionKeys ? ["ran"] : [undefined]
    // The processor's number, by a register that is the host's.
    case "rdpid": ["ran, another value", "ran, the guest's own value", undefined]
    case "rdtscp": ["ran, another value", "ran, the guest's own value"]
    // The host's XCR0, which only the host may write; from the kernel it is emulated.
    case "xgetbv": ["ran, another value", "ran, the guest's own value"]
    case "xsetbv": inKernel ? ["ran, no effect", "ran, right effect"] : [refused]
    case "invpcid": [refused, undefined]
    case "monitor", "stac": [undefined]
    case "rdpmc": [refused, "ran"]
    // Eight times the vector, and the IDT bit.
    case "int 0x80": ["trapped: general protection, error code 0x402"]
    // Calls of the hypervisor below the host, if there is one: it answers, refuses, or gives the other vendor's #UD.
    case "vmcall", "vmmcall": [undefined, refused, "ran", "trapped: page fault, error code 0x7"]
    default: []
    }
  }
}

extension String {
  fileprivate func trimmingSuffix(_ character: Character) -> String {
    var text = self
    while text.last == character { text.removeLast() }
    return text
  }
}

/// What the host's lines may say, without a host of the vendor.
struct HostLinesTests {
  private func surprising(_ lines: String, _ vendor: HostProcessor.Vendor, keys: Bool = false) -> [String] {
    HostLines.surprising(in: lines, vendor: vendor, hasProtectionKeys: keys)
  }

  @Test("VMRUN, CLGI and RDPKRU by vendor and features")
  func byVendor() {
    let privileged = """
      user   * vmrun       trapped: general protection, error code 0x0
      kernel * clgi        trapped: general protection, error code 0x0
      """
    #expect(surprising(privileged, .amd).isEmpty)
    #expect(surprising(privileged, .intel).count == 2)
    let undefined = "user   * vmrun       trapped: invalid opcode\nkernel * clgi        trapped: invalid opcode"
    #expect(surprising(undefined, .intel).isEmpty)
    #expect(surprising("user   * rdpkru      ran", .intel, keys: true).isEmpty)
    #expect(surprising("user   * rdpkru      ran", .amd).count == 1)
    #expect(surprising("user   * rdpkru      trapped: invalid opcode", .intel, keys: true).count == 1)
    #expect(surprising("user   * sysenter    trapped: general protection, error code 0x0", .intel).isEmpty)
    #expect(surprising("user   * sysenter    trapped: general protection, error code 0x0", .amd).count == 1)
  }

  @Test("lines without a mark are none of them, and a row that is not known is a surprise")
  func others() {
    #expect(surprising("user     rdtsc       ran, right effect", .amd).isEmpty)
    #expect(surprising("user   * hcf         ran", .amd).count == 1)
  }
}
