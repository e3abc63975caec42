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
    /// ModRM.reg names a segment, control or debug register, and not each number does.
    var namesSystemRegister = false
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
        slots[slot].namesSystemRegister =
          slots[slot].namesSystemRegister || form.movesSystemRegister || form.movesSegmentRegister
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

extension Decoder {
  /// How many lines the digested table has, counting from 1, and what each is called: for the tests' bookkeeping.
  package static var formCount: Int { OpcodeTables.shared.formCount }
  package static func formName(_ index: Int) -> String {
    guard index > 0, index < formCount else { return "" }
    let form = OpcodeTables.shared.forms[index]
    guard let start = UnsafePointer<UInt8>(bitPattern: form.mnemonic) else { return "" }
    let name = String(decoding: UnsafeBufferPointer(start: start, count: Int(form.mnemonicLength)), as: UTF8.self)
    return "\(form.attributes.contains(.vexName) ? "v" : "")\(name) \(form.feature) \(form.classification)"
  }
  /// Lines of the table's text that could not be read. There are none, or the tests fail.
  package static var unreadableLines: [String] { OpcodeTables.shared.unreadable }
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

  var movesSegmentRegister: Bool { operands.0.method == .regSegment || operands.1.method == .regSegment }
}
