// The registers that a debugger knows, in its order: those that GDB demands for its architectures ("GDB: The GNU Project
// Debugger", appendix G, "i386 Features"), then the control registers, which it shows as they come.

import TrivisorVMM
import TrivisorX86

/// A register of a target description.
struct TargetRegister {
  /// Where it is in a processor's state.
  enum Place {
    case general(WritableKeyPath<GeneralRegisters, UInt64>)
    /// RIP, as a linear address.
    case instructionPointer
    case selector(WritableKeyPath<SystemRegisters, TrivisorVMM.Segment>)
    case base(WritableKeyPath<SystemRegisters, TrivisorVMM.Segment>)
    case control(WritableKeyPath<SystemRegisters, UInt64>)
    case modelSpecific(UInt32)
    case x87(Int)
    case x87Control(X87Control)
    case vector(Int)
    case vectorUpper(Int)
    case vectorControl
  }

  /// x87's environment, as GDB names its parts.
  enum X87Control: CaseIterable {
    case fctrl, fstat, ftag, fiseg, fioff, foseg, fooff, fop
  }

  let name: String
  let bits: Int
  let type: String
  let place: Place
  var group: String?

  var byteCount: Int { bits / 8 }
}

/// Some registers that belong together.
struct TargetFeature {
  let name: String
  /// XML that their types need.
  var types = ""
  let registers: [TargetRegister]
}

/// The registers of a target.
struct RegisterSet {
  /// GDB's architectures.
  enum Architecture: String, Sendable {
    case i386
    case x86_64 = "i386:x86-64"
  }

  let architecture: Architecture
  let features: [TargetFeature]
  /// By GDB's number.
  let registers: [TargetRegister]

  init(_ architecture: Architecture, hasAVX: Bool) {
    self.architecture = architecture
    var features = [Self.core(architecture), Self.vectors(architecture)]
    if architecture == .x86_64 {
      features.append(
        TargetFeature(
          name: "org.gnu.gdb.i386.segments",
          registers: [
            TargetRegister(name: "fs_base", bits: 64, type: "int64", place: .base(\.fs)),
            TargetRegister(name: "gs_base", bits: 64, type: "int64", place: .base(\.gs)),
          ]))
    }
    if hasAVX { features.append(Self.upperHalves(architecture)) }
    features.append(Self.control(architecture))
    self.features = features
    registers = features.flatMap(\.registers)
  }

  private static func core(_ architecture: Architecture) -> TargetFeature {
    let is64 = architecture == .x86_64
    let bits = is64 ? 64 : 32
    var registers: [TargetRegister] = []
    func add(_ name: String, _ path: WritableKeyPath<GeneralRegisters, UInt64>, type: String) {
      registers.append(TargetRegister(name: name, bits: bits, type: type, place: .general(path)))
    }
    if is64 {
      add("rax", \.rax, type: "int64")
      add("rbx", \.rbx, type: "int64")
      add("rcx", \.rcx, type: "int64")
      add("rdx", \.rdx, type: "int64")
      add("rsi", \.rsi, type: "int64")
      add("rdi", \.rdi, type: "int64")
      add("rbp", \.rbp, type: "data_ptr")
      add("rsp", \.rsp, type: "data_ptr")
      add("r8", \.r8, type: "int64")
      add("r9", \.r9, type: "int64")
      add("r10", \.r10, type: "int64")
      add("r11", \.r11, type: "int64")
      add("r12", \.r12, type: "int64")
      add("r13", \.r13, type: "int64")
      add("r14", \.r14, type: "int64")
      add("r15", \.r15, type: "int64")
    } else {
      add("eax", \.rax, type: "int32")
      add("ecx", \.rcx, type: "int32")
      add("edx", \.rdx, type: "int32")
      add("ebx", \.rbx, type: "int32")
      add("esp", \.rsp, type: "data_ptr")
      add("ebp", \.rbp, type: "data_ptr")
      add("esi", \.rsi, type: "int32")
      add("edi", \.rdi, type: "int32")
    }
    registers.append(
      TargetRegister(name: is64 ? "rip" : "eip", bits: bits, type: "code_ptr", place: .instructionPointer))
    registers.append(TargetRegister(name: "eflags", bits: 32, type: "i386_eflags", place: .general(\.rflags)))
    let segments: [(String, WritableKeyPath<SystemRegisters, TrivisorVMM.Segment>)] = [
      ("cs", \.cs), ("ss", \.ss), ("ds", \.ds), ("es", \.es), ("fs", \.fs), ("gs", \.gs),
    ]
    for (name, path) in segments {
      registers.append(TargetRegister(name: name, bits: 32, type: "int32", place: .selector(path)))
    }
    for number in 0..<8 {
      registers.append(TargetRegister(name: "st\(number)", bits: 80, type: "i387_ext", place: .x87(number)))
    }
    for part in TargetRegister.X87Control.allCases {
      registers.append(
        TargetRegister(name: "\(part)", bits: 32, type: "int", place: .x87Control(part), group: "float"))
    }
    return TargetFeature(
      name: "org.gnu.gdb.i386.core",
      types: flagTypes(
        "i386_eflags",
        [
          ("CF", 0), ("", 1), ("PF", 2), ("AF", 4), ("ZF", 6), ("SF", 7), ("TF", 8), ("IF", 9), ("DF", 10), ("OF", 11),
          ("NT", 14), ("RF", 16), ("VM", 17), ("AC", 18), ("VIF", 19), ("VIP", 20), ("ID", 21),
        ]), registers: registers)
  }

  private static func flagTypes(_ name: String, _ flags: [(name: String, bit: Int)]) -> String {
    var text = "<flags id=\"\(name)\" size=\"4\">"
    for flag in flags {
      text += "<field name=\"\(flag.name)\" start=\"\(flag.bit)\" end=\"\(flag.bit)\"/>"
    }
    return text + "</flags>"
  }

  private static let vectorTypes = """
    <vector id="v4f" type="ieee_single" count="4"/><vector id="v2d" type="ieee_double" count="2"/>\
    <vector id="v16i8" type="int8" count="16"/><vector id="v8i16" type="int16" count="8"/>\
    <vector id="v4i32" type="int32" count="4"/><vector id="v2i64" type="int64" count="2"/>\
    <union id="vec128"><field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/>\
    <field name="v16_int8" type="v16i8"/><field name="v8_int16" type="v8i16"/><field name="v4_int32" type="v4i32"/>\
    <field name="v2_int64" type="v2i64"/><field name="uint128" type="uint128"/></union>
    """

  private static func vectorCount(_ architecture: Architecture) -> Int { architecture == .x86_64 ? 16 : 8 }

  private static func vectors(_ architecture: Architecture) -> TargetFeature {
    var registers = (0..<vectorCount(architecture)).map { number in
      TargetRegister(name: "xmm\(number)", bits: 128, type: "vec128", place: .vector(number))
    }
    registers.append(
      TargetRegister(name: "mxcsr", bits: 32, type: "i386_mxcsr", place: .vectorControl, group: "vector"))
    return TargetFeature(
      name: "org.gnu.gdb.i386.sse",
      types: vectorTypes
        + flagTypes(
          "i386_mxcsr",
          [
            ("IE", 0), ("DE", 1), ("ZE", 2), ("OE", 3), ("UE", 4), ("PE", 5), ("DAZ", 6), ("IM", 7), ("DM", 8),
            ("ZM", 9),
            ("OM", 10), ("UM", 11), ("PM", 12), ("FZ", 15),
          ]), registers: registers)
  }

  private static func upperHalves(_ architecture: Architecture) -> TargetFeature {
    TargetFeature(
      name: "org.gnu.gdb.i386.avx",
      registers: (0..<vectorCount(architecture)).map { number in
        TargetRegister(name: "ymm\(number)h", bits: 128, type: "uint128", place: .vectorUpper(number))
      })
  }

  private static func control(_ architecture: Architecture) -> TargetFeature {
    let bits = architecture == .x86_64 ? 64 : 32
    var places: [(String, TargetRegister.Place)] = [
      ("cr0", .control(\.cr0)), ("cr2", .control(\.cr2)), ("cr3", .control(\.cr3)), ("cr4", .control(\.cr4)),
    ]
    if architecture == .x86_64 {
      places += [("cr8", .control(\.cr8)), ("k_gs_base", .modelSpecific(MSR.kernelGSBase))]
    }
    places.append(("efer", .control(\.efer)))
    return TargetFeature(
      name: "org.trivisor.control",
      registers: places.map { name, place in
        TargetRegister(name: name, bits: bits, type: bits == 64 ? "int64" : "int32", place: place, group: "system")
      })
  }

  /// What `qXfer:features:read:target.xml` gives ("GDB: The GNU Project Debugger", appendix G).
  var description: String {
    var text = """
      <?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0">\
      <architecture>\(architecture.rawValue)</architecture>
      """
    var number = 0
    for feature in features {
      text += "<feature name=\"\(feature.name)\">" + feature.types
      for register in feature.registers {
        text += "<reg name=\"\(register.name)\" bitsize=\"\(register.bits)\" type=\"\(register.type)\""
        text += " regnum=\"\(number)\"" + (register.group.map { " group=\"\($0)\"" } ?? "") + "/>"
        number += 1
      }
      text += "</feature>"
    }
    return text + "</target>"
  }
}
