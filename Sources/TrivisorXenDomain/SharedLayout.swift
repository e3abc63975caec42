/// Where things are in what the domain shares with its hypervisor, by the width of its words.
public enum SharedLayout: Sendable {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  case bits64, bits32

  var wordSize: UInt64 { self == .bits64 ? 8 : 4 }
  /// In shared_info.
  var pending: Int { 2048 }
  var mask: Int { self == .bits64 ? 2560 : 2176 }
  var wallClock: Int { self == .bits64 ? 3072 : 2304 }
  /// How many ports the two levels have.
  var portLimit: UInt32 { self == .bits64 ? 4096 : 1024 }
  /// In vcpu_info.
  var selector: Int { self == .bits64 ? 8 : 4 }
  var faultAddress: Int { self == .bits64 ? 16 : 8 }
}
