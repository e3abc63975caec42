// Sizes, times and addresses as people type them.

import ArgumentParser
import TrivisorVMM

/// Bytes of memory: `512` and `512M` are MiB, `2G` GiB, `640K` KiB, `1T` TiB.
struct MemorySize: ExpressibleByArgument, Equatable {
  let bytes: UInt64

  init(bytes: UInt64) { self.bytes = bytes }

  init?(argument: String) {
    var digits = argument.uppercased()[...]
    if digits.hasSuffix("IB") {
      digits = digits.dropLast(2)
    } else if digits.hasSuffix("B") {
      digits = digits.dropLast()
    }
    let shift: UInt64
    switch digits.last {
    case "K": shift = 10
    case "M": shift = 20
    case "G": shift = 30
    case "T": shift = 40
    case "P": shift = 50
    default: shift = 20
    }
    if let last = digits.last, last.isLetter { digits = digits.dropLast() }
    guard let count = UInt64(digits) else { return nil }
    let (bytes, overflow) = count.multipliedReportingOverflow(by: 1 << shift)
    self.bytes = overflow ? .max : bytes
  }

  var defaultValueDescription: String { "\(bytes >> 20)M" }
}

/// A time limit: `30` and `30s` are seconds, `500ms`, `5m`, `1h`.
struct TimeLimit: ExpressibleByArgument, Equatable {
  let nanoseconds: UInt64

  init?(argument: String) {
    let units: [(String, Double)] = [("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9), ("", 1e9)]
    for (suffix, factor) in units where argument.hasSuffix(suffix) {
      guard let value = Double(argument.dropLast(suffix.count)), value > 0, value * factor < 1e18 else { return nil }
      nanoseconds = UInt64(value * factor)
      return
    }
    return nil
  }
}

/// A guest physical address: decimal, or hexadecimal with `0x`.
struct Address: ExpressibleByArgument, Equatable {
  let value: GuestPhysicalAddress

  init?(argument: String) {
    let number =
      argument.lowercased().hasPrefix("0x") ? UInt64(argument.dropFirst(2), radix: 16) : UInt64(argument)
    guard let number else { return nil }
    value = GuestPhysicalAddress(number)
  }
}
