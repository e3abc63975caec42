/// The digested table, built once and never freed, so that the decoder can hold plain pointers into it.
struct OpcodeTables: @unchecked Sendable {
  // Sendable although it holds pointers: what they point to is never written after `init`.
  let slots: UnsafePointer<Slot>
  let forms: UnsafePointer<Form>
  let implicits: UnsafePointer<OperandSpecification>
  let flagUses: UnsafePointer<FlagUse>
  let formCount: Int
  let unreadable: [String]

  /// What must be known of an opcode before ModRM is looked at.
  struct Slot: BitwiseCopyable {
    var first: UInt16 = 0
    var hasModRM = false
    /// ModRM.mod is taken as 3 whatever it says (moves to and from control and debug registers).
    var ignoresMod = false
  }

  static let shared = OpcodeTables()

  private init() {
    var reader = TableReader()
    reader.read(OneByteMap.text, legacy: .oneByte, vex: nil)
    reader.read(X87Map.text, legacy: .oneByte, vex: nil)
    reader.read(TwoByteMap.text, legacy: .escape0F, vex: .vex0F)
    reader.read(ThreeByteMap38.text, legacy: .escape0F38, vex: .vex0F38)
    reader.read(ThreeByteMap38.fma, legacy: .escape0F38, vex: .vex0F38)
    reader.read(ThreeByteMap3A.text, legacy: .escape0F3A, vex: .vex0F3A)

    var slots = [Slot](repeating: Slot(), count: FormMap.count * 256)
    for slot in slots.indices {
      slots[slot].first = reader.heads[slot]
      var index = reader.heads[slot]
      while index != 0 {
        let form = reader.forms[Int(index)]
        slots[slot].hasModRM = slots[slot].hasModRM || form.usesModRM
        slots[slot].ignoresMod = slots[slot].ignoresMod || form.movesSystemRegister
        index = form.next
      }
    }
    self.slots = Self.keep(slots)
    forms = Self.keep(reader.forms)
    implicits = Self.keep(reader.implicits)
    flagUses = Self.keep(reader.flagUses)
    formCount = reader.forms.count
    unreadable = reader.unreadable
  }

  private static func keep<Element: BitwiseCopyable>(_ elements: [Element]) -> UnsafePointer<Element> {
    let memory = UnsafeMutablePointer<Element>.allocate(capacity: max(elements.count, 1))
    elements.withUnsafeBufferPointer { source in
      if let base = source.baseAddress { memory.initialize(from: base, count: source.count) }
    }
    return UnsafePointer(memory)
  }
}

extension Form {
  var usesModRM: Bool {
    mask & (Key.modRM | Key.modIs3) != 0 || operands.0.method.usesModRM || operands.1.method.usesModRM
      || operands.2.method.usesModRM || operands.3.method.usesModRM
  }

  var movesSystemRegister: Bool {
    func isSystem(_ method: AddressingMethod) -> Bool { method == .regControl || method == .regDebug }
    return isSystem(operands.0.method) || isSystem(operands.1.method)
  }
}
