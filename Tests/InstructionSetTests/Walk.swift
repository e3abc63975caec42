import TrivisorInstructionSet

/// Every opcode of every map, under each prefix that can select another instruction, with every ModRM byte (a debug
/// build takes a few of each kind).
struct Walk {
  let mode: CPUMode

  func forEach(_ body: (UnsafeRawBufferPointer) -> Void) {
    withUnsafeTemporaryAllocation(byteCount: 64, alignment: 8) { buffer in
      legacy(buffer, body)
      if Effort.isFull || mode == .bits64 { vex(buffer, body) }
      others(buffer, body)
    }
  }

  private static let all: [UInt8] = Array(0...255)
  /// Every reg, with SIB and with register 1; and every register form.
  private static let few: [UInt8] = all.filter { $0 & 0xc7 == 0x04 || $0 & 0xc7 == 0xc1 }
  private static let forms: [UInt8] = all.filter { $0 & 0xc7 == 0x04 || $0 >= 0xc0 }

  private func visit(
    _ beginning: [UInt8], _ modRMs: [UInt8], _ buffer: UnsafeMutableRawBufferPointer,
    _ body: (UnsafeRawBufferPointer) -> Void
  ) {
    // Displacement and immediates, whatever they are; a vector index that differs from the registers 0 to 2.
    for i in 0..<buffer.count { buffer[i] = UInt8(truncatingIfNeeded: 0x1c &+ i &* 0x11) }
    buffer.copyBytes(from: beginning)
    for modRM in modRMs {
      buffer[beginning.count] = modRM
      buffer[beginning.count + 1] = 0x1c
      body(UnsafeRawBufferPointer(buffer))
    }
  }

  private func legacy(_ buffer: UnsafeMutableRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) {
    let escapes: [[UInt8]] = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]]
    let rexes: [[UInt8]] = mode == .bits64 ? (Effort.isFull ? [[], [0x48], [0x45]] : [[], [0x4d]]) : [[]]
    let others: [[UInt8]] = Effort.isFull ? [[], [0x67], [0xf0], [0x65], [0x66, 0xf3]] : [[]]
    for escape in escapes {
      for prefix in [[], [0x66], [0xf3], [0xf2]] as [[UInt8]] {
        for other in others {
          for rex in rexes {
            for opcode in UInt8.min...UInt8.max {
              // x87, and group 7, use every register form.
              let isDense = escape.isEmpty ? opcode & 0xf8 == 0xd8 : escape == [0x0f] && opcode == 0x01
              let modRMs = Effort.isFull ? Self.all : isDense ? Self.forms : Self.few
              visit(prefix + other + rex + escape + [opcode], modRMs, buffer, body)
            }
          }
        }
      }
    }
  }

  private func vex(_ buffer: UnsafeMutableRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) {
    let modRMs = Effort.isFull ? Self.all : Self.few
    for map in UInt8(1)...3 {
      for low in UInt8(0)..<8 {
        for w in [0, 0x80] as [UInt8] {
          for vvvv in Effort.isFull ? [0x78, 0x58] : [0x78] as [UInt8] {
            for opcode in UInt8.min...UInt8.max {
              visit([0xc4, 0xe0 | map, w | vvvv | low, opcode], modRMs, buffer, body)
            }
          }
        }
      }
    }
  }

  /// EVEX, XOP and 3DNow!, of which nothing is supported: fewer forms.
  private func others(_ buffer: UnsafeMutableRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) {
    let modRMs: [UInt8] = Effort.isFull ? Self.all : [0x04, 0xc1]
    for map in [1, 2, 3, 5, 6] as [UInt8] {
      for low in UInt8(0)..<4 {
        for opcode in UInt8.min...UInt8.max {
          visit([0x62, 0xf0 | map, 0x7c | low, 0x48, opcode], modRMs, buffer, body)
          visit([0x62, 0xf0 | map, 0xfc | low, 0x49, opcode], modRMs, buffer, body)
        }
      }
    }
    for map in UInt8(8)...10 {
      for opcode in UInt8.min...UInt8.max {
        visit([0x8f, 0xe0 | map, 0x78, opcode], modRMs, buffer, body)
        visit([0x8f, 0xe0 | map, 0x70, opcode], modRMs, buffer, body)
      }
    }
    visit([0x0f, 0x0f], modRMs, buffer, body)
  }
}
