/// The digested table, built once and never freed, so that the decoder can hold plain pointers into it.
struct OpcodeTables: @unchecked Sendable {
  // Sendable although it holds pointers: what they point to is never written after `init`.
  let slots: UnsafePointer<Slot>
  /// Where the forms of an opcode begin: one entry for each opcode, or eight, by ModRM.reg, for a group.
  let heads: UnsafePointer<UInt16>
  let prefixKinds: UnsafePointer<PrefixKind>
  let modRMLayouts: UnsafePointer<ModRMLayout>
  let immediateLayouts: UnsafePointer<ImmediateLayout>
  let widths: Widths
  let forms: UnsafePointer<Form>
  let implicits: UnsafePointer<OperandSpecification>
  let flagUses: UnsafePointer<FlagUse>
  let formCount: Int
  let unreadable: [String]

  /// What must be known of an opcode before ModRM is looked at.
  struct Slot: BitwiseCopyable {
    /// Index into `heads`; 0 if the opcode has no form.
    var head: UInt16 = 0
    var hasModRM = false
    /// `head` is the first of eight.
    var isGroup = false
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
    var heads: [UInt16] = [0]
    for slot in slots.indices where reader.heads[slot] != 0 {
      slots[slot].head = UInt16(heads.count)
      var index = reader.heads[slot]
      let isGroup = reader.forms[Int(index)].mask & Key.reg != 0
      slots[slot].isGroup = isGroup
      if isGroup {
        for reg in UInt32(0)..<8 { heads.append(reader.firstForm(from: index, reg: reg)) }
      } else {
        heads.append(index)
      }
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
    self.heads = Self.keep(heads)
    prefixKinds = Self.keep(PrefixKind.table)
    modRMLayouts = Self.keep(ModRMLayout.table)
    immediateLayouts = Self.keep(ImmediateLayout.table)
    widths = Widths()
    forms = Self.keep(reader.forms)
    implicits = Self.keep(reader.implicits)
    flagUses = Self.keep(reader.flagUses)
    formCount = reader.forms.count
    unreadable = reader.unreadable
  }

  /// Copies `elements` to memory that is never freed.
  static func keep<Element: BitwiseCopyable>(_ elements: [Element]) -> UnsafePointer<Element> {
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
  /// What a line's instruction does, and what the line calls it without its v.
  package static func formOperation(_ index: Int) -> (Operation, String) {
    let form = OpcodeTables.shared.forms[index]
    guard let start = UnsafePointer<UInt8>(bitPattern: form.mnemonic) else { return (form.operation, "") }
    let name = UnsafeBufferPointer(start: start, count: Int(form.mnemonicLength))
    return (form.operation, String(decoding: name, as: UTF8.self))
  }
  /// The names of the operations, in the order of their cases.
  package static var operationWords: String { "\(Operation.words)" }
  /// Lines of the table's text that could not be read. There are none, or the tests fail.
  package static var unreadableLines: [String] { OpcodeTables.shared.unreadable }
}

extension TableReader {
  /// The first form of a chain that can match this ModRM.reg; 0 if none can.
  func firstForm(from start: UInt16, reg: UInt32) -> UInt16 {
    var index = start
    while index != 0 {
      let form = forms[Int(index)]
      if (reg << Key.regShift ^ form.value) & form.mask & Key.reg == 0 { break }
      index = form.next
    }
    return index
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

  var movesSegmentRegister: Bool { operands.0.method == .regSegment || operands.1.method == .regSegment }
}
