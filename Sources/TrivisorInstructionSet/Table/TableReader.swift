// Turns the text of the opcode maps into `Form`s, once, at the first use of a decoder.
//
// The grammar of a line, its fields separated by single spaces (`Decoder.swift` shows how to read one):
//
//     opcode  prefix  class  mnemonic  operands  [|implicit operands]  [attributes …]
//
//     opcode      two hex digits, then nothing, +r (register in the low three bits), +cc (condition in the low four),
//                 /n (ModRM.reg) or /n.m (ModRM.reg and rm, mod 3)
//     prefix      -  any;  np, 66, f3, f2  exactly this counts as part of the opcode;  nf  neither F3 nor F2
//     class       a word of `Classification`
//     mnemonic    (v) in front makes two forms, a legacy one and a VEX one; CC stands for the condition
//     operands    comma-separated: an access mark (none read, = write, + both, ? conditional write, % conditional read,
//                 ~ read and conditional write, * both in the legacy form and write in the VEX form), a method letter
//                 and a size, or a register's name. The legacy form of a (v) line drops H operands.
//     attributes  a feature; 256:feature for VEX.L = 1; mem reg (mod); W0 W1 L0 L1 b0 (REX.B) os2 os4 os8 (operand
//                 size); o64 i64 (only in, not in 64-bit mode); d64 (operand size 8 in 64-bit mode);
//                 noW (REX.W makes the operand size 4, not 8); lock rep repz bits;
//                 aligned (memory must be, in the VEX form too), unaligned (it needn't be, in the legacy form either);
//                 vex (no legacy form); flags: t:tested w:written 0:cleared 1:set u:undefined, each by letters of
//                 `flagLetters`; maybe (the flags may stay as they are)

/// Reads table text and collects forms.
struct TableReader {
  var forms: [Form] = [Form(mnemonic: 0)]
  var implicits: [OperandSpecification] = []
  var flagUses: [FlagUse] = [FlagUse()]
  var heads = [UInt16](repeating: 0, count: FormMap.count * 256)
  /// Lines that the reader made no sense of; a test says that there are none.
  var unreadable: [String] = []

  private var tails = [UInt16](repeating: 0, count: FormMap.count * 256)
  private let features = WordTable(Feature.words)
  private let classes = WordTable(Classification.words)
  private let operations = WordTable(Operation.words, slotCount: 2048)
  private let sizes = WordTable(OperandSize.words)
  private let registers = WordTable(OperandSize.registerWords)
  private let attributes = WordTable(
    "lock rep repz bits mem reg W0 W1 L0 L1 b0 os2 os4 os8 o64 i64 d64 vex maybe noW aligned unaligned -")
  private let stackWords = WordTable("push push2 push3 push8 pop pop2 pop3 pop5 pop8 leave xlat")
  private static let flagLetters: StaticString = "cpazstidolnrvkfge"

  init() {
    forms.reserveCapacity(2200)
    implicits.reserveCapacity(600)
  }

  mutating func read(_ text: StaticString, legacy: FormMap, vex: FormMap?) {
    var rest = Word(start: text.utf8Start, end: text.utf8Start + text.utf8CodeUnitCount)
    while !rest.isEmpty {
      let line = rest.next(UInt8(ascii: "\n"))
      if line.isEmpty || line.first == UInt8(ascii: "#") { continue }
      if !readLine(line, legacy: legacy, vex: vex) {
        unreadable.append(
          String(decoding: UnsafeBufferPointer(start: line.start, count: line.count), as: UTF8.self))
      }
    }
  }

  // MARK: One line

  private mutating func readLine(_ line: Word, legacy: FormMap, vex: FormMap?) -> Bool {
    var rest = line
    let space = UInt8(ascii: " ")
    let opcode = rest.next(space)
    let prefix = rest.next(space)
    guard let classIndex = classes.index(of: rest.next(space)),
      let classification = Classification(rawValue: UInt8(classIndex))
    else { return false }
    let mnemonic = rest.next(space)
    let operands = rest.next(space)

    var draft = Draft(mnemonic: mnemonic, classification: classification)
    guard draft.readOpcode(opcode), draft.readPrefix(prefix) else { return false }
    while !rest.isEmpty {
      let word = rest.next(space)
      if word.isEmpty { continue }
      if word.first == UInt8(ascii: "|") {
        draft.implicit = word.dropFirst()
      } else if !readAttribute(word, into: &draft) {
        return false
      }
    }
    let needsVEX = draft.isVEXOnly || draft.hasBothForms
    if !draft.isVEXOnly { guard add(draft, operands, isVEX: false, to: legacy) else { return false } }
    guard needsVEX else { return true }
    guard let vex else { return false }
    guard let feature256 = draft.feature256 else { return add(draft, operands, isVEX: true, to: vex) }
    draft.require(Key.l, 0)
    guard add(draft, operands, isVEX: true, to: vex) else { return false }
    draft.require(Key.l, Key.l)
    draft.featureVEX = feature256
    return add(draft, operands, isVEX: true, to: vex)
  }

  private mutating func readAttribute(_ word: Word, into draft: inout Draft) -> Bool {
    if word.count > 2, word.start[1] == UInt8(ascii: ":") {
      return readFlags(word, into: &draft.flagUse)
    }
    if word.hasPrefix("256:") {
      guard let index = features.index(of: word.dropFirst(4)) else { return false }
      draft.feature256 = Feature(rawValue: UInt8(index))
      return true
    }
    if let index = features.index(of: word), let feature = Feature(rawValue: UInt8(index)) {
      draft.feature = feature
      if feature == .avx || feature == .avx2 || feature == .f16c || feature == .fma {
        draft.isVEXOnly = true
        draft.featureVEX = feature
      }
      return true
    }
    guard let index = attributes.index(of: word) else { return false }
    switch index {
    case 0: draft.attributes.insert(.lockable)
    case 1: draft.attributes.insert(.rep)
    case 2: draft.attributes.insert(.repeatWhile)
    case 3: draft.attributes.insert(.bitString)
    case 4: draft.require(Key.modIs3, 0)
    case 5: draft.require(Key.modIs3, Key.modIs3)
    case 6: draft.requireVEX(Key.w, 0)
    case 7: draft.requireVEX(Key.w, Key.w)
    case 8: draft.maskVEX |= Key.l
    case 9:
      draft.maskVEX |= Key.l
      draft.valueVEX |= Key.l
    case 10: draft.require(Key.b, 0)
    case 11, 12, 13: draft.require(Key.operandSize, UInt32(index - 11) << Key.operandSizeShift)
    case 14: draft.require(Key.bits64, Key.bits64)
    case 15:
      draft.require(Key.bits64, 0)
      draft.attributes.insert(.notIn64Bit)
    case 16: draft.attributes.insert(.default64)
    case 17:
      draft.isVEXOnly = true
      draft.featureVEX = draft.feature
    case 18: draft.flagUse.isConditional = true
    case 19: draft.attributes.insert(.ignoresW)
    case 20: draft.attributes.insert(.aligned)
    case 21: draft.isUnaligned = true
    default: break
    }
    return true
  }

  /// `w:oszapc`, `t:all`: one set of flags. `all` is every flag, `pushf` and `popf` what those two can see and change.
  private func readFlags(_ word: Word, into use: inout FlagUse) -> Bool {
    var flags: Flags = []
    let letters = word.dropFirst(2)
    if letters.hasPrefix("all") || letters.hasPrefix("pushf") || letters.hasPrefix("popf") {
      flags = Flags(rawValue: 0x3f_7fd5)
    } else {
      var p = letters.start
      while p < letters.end {
        guard let flag = Self.flag(p.pointee) else { return false }
        flags.insert(flag)
        p += 1
      }
    }
    switch word.first {
    case UInt8(ascii: "t"): use.tested.formUnion(flags)
    case UInt8(ascii: "w"): use.modified.formUnion(flags)
    case UInt8(ascii: "0"): use.cleared.formUnion(flags)
    case UInt8(ascii: "1"): use.set.formUnion(flags)
    case UInt8(ascii: "u"): use.undefined.formUnion(flags)
    default: return false
    }
    return true
  }

  private static func flag(_ letter: UInt8) -> Flags? {
    switch letter {
    case UInt8(ascii: "c"): .carry
    case UInt8(ascii: "p"): .parity
    case UInt8(ascii: "a"): .auxiliary
    case UInt8(ascii: "z"): .zero
    case UInt8(ascii: "s"): .sign
    case UInt8(ascii: "o"): .overflow
    case UInt8(ascii: "d"): .direction
    case UInt8(ascii: "i"): .interrupt
    case UInt8(ascii: "t"): .trap
    case UInt8(ascii: "n"): .nestedTask
    case UInt8(ascii: "r"): .resume
    case UInt8(ascii: "v"): .virtual8086
    case UInt8(ascii: "k"): .alignment
    default: nil
    }
  }

  // MARK: Forms

  private mutating func add(_ draft: Draft, _ operands: Word, isVEX: Bool, to map: FormMap) -> Bool {
    var form = Form(mnemonic: UInt(bitPattern: draft.mnemonic.start))
    form.mnemonicLength = UInt16(draft.mnemonic.count)
    form.mask = draft.mask
    form.value = draft.value
    form.classification = draft.classification
    form.feature = isVEX ? draft.featureVEX : draft.feature
    form.attributes = draft.attributes
    if isVEX {
      form.mask |= draft.maskVEX
      form.value |= draft.valueVEX
      form.attributes.formUnion(draft.hasBothForms ? [.vex, .vexName] : .vex)
    } else if draft.value & Key.simdPrefix == 1 << Key.simdPrefixShift {
      form.attributes.insert(.mandatory66)
    }
    var usesVVVV = false
    guard readOperands(operands, isVEX, draft.hasBothForms, into: &form, &usesVVVV) else { return false }
    guard let operation = operation(of: draft, form) else { return false }
    form.operation = operation
    if isVEX, !usesVVVV {
      form.mask |= Key.vvvvIsUnused
      form.value |= Key.vvvvIsUnused
    }
    if !isVEX, !draft.isUnaligned, form.memory.isVectorMemory, form.memory.size.isWholeVector {
      form.attributes.insert(.aligned)
    }
    form.implicitStart = UInt16(implicits.count)
    var rest = draft.implicit
    while !rest.isEmpty {
      guard let operand = readOperand(rest.next(UInt8(ascii: ",")), isVEX) else { return false }
      implicits.append(operand)
      form.implicitCount += 1
      if operand.method == .push || operand.method == .pop || operand.size == .operand {
        form.attributes.insert(.usesOperandSize)
      }
    }
    form.flags = intern(draft.flagUse)
    for i in 0..<draft.opcodeCount {
      var flags = draft.flagUse
      if draft.hasCondition {
        flags.tested = FlagUse.tested(byCondition: UInt8(i))
        form.flags = intern(flags)
      }
      append(form, map, draft.opcode &+ UInt8(i))
    }
    return true
  }

  /// The operation by its name; what is named for a system register is one of its own, and widths of string instructions
  /// are one.
  private func operation(of draft: Draft, _ form: Form) -> Operation? {
    let (first, second) = (form.operands.0.method, form.operands.1.method)
    switch (first, second) {
    case (.regSegment, _): return .movToSegment
    case (_, .regSegment): return .movFromSegment
    case (.regControl, _): return .movToControl
    case (_, .regControl): return .movFromControl
    case (.regDebug, _): return .movToDebug
    case (_, .regDebug): return .movFromDebug
    case (.fixedSegment, _): return form.operands.0.access.contains(.write) ? .popSegment : .pushSegment
    default: break
    }
    if draft.hasCondition {
      return draft.mnemonic.hasPrefix("j") ? .jcc : draft.mnemonic.hasPrefix("set") ? .setcc : .cmovcc
    }
    var name = draft.mnemonic
    if !form.attributes.isDisjoint(with: [.rep, .repeatWhile]), name.end[-1] == UInt8(ascii: "b") {
      name.end -= 1
    }
    return operations.index(of: name).flatMap { Operation(rawValue: UInt16($0)) }
  }

  private mutating func append(_ form: Form, _ map: FormMap, _ opcode: UInt8) {
    let slot = map.rawValue * 256 + Int(opcode)
    let index = UInt16(forms.count)
    forms.append(form)
    if tails[slot] == 0 { heads[slot] = index } else { forms[Int(tails[slot])].next = index }
    tails[slot] = index
  }

  private mutating func intern(_ use: FlagUse) -> UInt8 {
    if let index = flagUses.firstIndex(of: use) { return UInt8(index) }
    flagUses.append(use)
    return UInt8(flagUses.count - 1)
  }

  // MARK: Operands

  private func readOperands(
    _ word: Word, _ isVEX: Bool, _ hasBothForms: Bool, into form: inout Form, _ usesVVVV: inout Bool
  ) -> Bool {
    var rest = word
    while !rest.isEmpty, rest.first != UInt8(ascii: "-") {
      guard let operand = readOperand(rest.next(UInt8(ascii: ",")), isVEX) else { return false }
      if operand.method == .vvvvVector || operand.method == .vvvvGeneral {
        if !isVEX, hasBothForms { continue }
        usesVVVV = true
      }
      if operand.method.requiresRegister { form.require(Key.modIs3, Key.modIs3) }
      if operand.method.requiresMemory { form.require(Key.modIs3, 0) }
      if operand.canBeModRMMemory { form.memory = operand }
      if operand.method == .gather { form.attributes.insert(.gather) }
      if operand.method == .directMemory { form.immediate = .directOffset }
      switch operand.size {
      case .operand, .operandUpTo4, .farPointer, .pair, .x87Environment, .x87State:
        form.attributes.insert(.usesOperandSize)
      default: break
      }
      switch form.operandCount {
      case 0: form.operands.0 = operand
      case 1: form.operands.1 = operand
      case 2: form.operands.2 = operand
      case 3: form.operands.3 = operand
      default: return false
      }
      form.operandCount += 1
      if let immediate = Self.immediate(for: operand, after: form.immediate) { form.immediate = immediate }
    }
    return true
  }

  private static func immediate(for operand: OperandSpecification, after first: Form.Immediate) -> Form.Immediate? {
    switch (operand.method, operand.size) {
    case (.immediate, .byte):
      switch first {
      case .none: .byte
      case .word: .wordAndByte
      default: .twoBytes
      }
    case (.immediate, .pseudoDescriptor): .signedByte
    case (.immediate, .word): .word
    case (.immediate, .operandUpTo4): .upTo4
    case (.immediate, _): .full
    case (.immediateVector, _): .byte
    case (.relative, .byte): .relativeByte
    case (.relative, _): .relative
    case (.farPointer, _): .farPointer
    default: nil
    }
  }

  private func readOperand(_ word: Word, _ isVEX: Bool) -> OperandSpecification? {
    var word = word
    var operand = OperandSpecification()
    switch word.first {
    case UInt8(ascii: "="): operand.access = .write
    case UInt8(ascii: "+"): operand.access = [.read, .write]
    case UInt8(ascii: "*"): operand.access = isVEX ? .write : [.read, .write]
    case UInt8(ascii: "?"): operand.access = .conditionalWrite
    case UInt8(ascii: "%"): operand.access = .conditionalRead
    case UInt8(ascii: "~"): operand.access = [.read, .conditionalWrite]
    default: operand.access = []
    }
    if operand.access.isEmpty { operand.access = .read } else { word = word.dropFirst() }

    if word.first == UInt8(ascii: "@"), word.count == 3 {
      operand.method = .gather
      operand.number = word.start[1] == UInt8(ascii: "d") ? 4 : 8
      operand.size = word.start[2] == UInt8(ascii: "d") ? .doubleword : .quadword
      return operand
    }
    if word.hasPrefix("[DI]") {
      operand.method = .maskedString
      return readSize(word.dropFirst(4), into: &operand)
    }
    if let method = AddressingMethod(letter: word.first) {
      operand.method = method
      if method == .farPointer { return operand }
      if method == .rmX87 {
        operand.size = .extendedReal
        return operand
      }
      return readSize(word.dropFirst(), into: &operand)
    }
    if let index = stackWords.index(of: word) {
      switch index {
      case 0...3:
        operand.method = .push
        operand.number = [1, 2, 3, 8][index]
      case 4...8:
        operand.method = .pop
        operand.number = [1, 2, 3, 5, 8][index - 4]
      case 9: operand.method = .leave
      default: operand.method = .tableLookup
      }
      return operand
    }
    return readRegister(word, into: &operand)
  }

  private func readSize(_ word: Word, into operand: inout OperandSpecification) -> OperandSpecification? {
    guard let index = sizes.index(of: word), let size = OperandSize(rawValue: UInt8(index)) else { return nil }
    operand.size = size
    return operand
  }

  private func readRegister(_ word: Word, into operand: inout OperandSpecification) -> OperandSpecification? {
    guard let index = registers.index(of: word) else { return nil }
    operand.number = UInt8(index & 7)
    operand.method = .fixedGeneral
    switch index >> 3 {
    case 0:
      operand.size = index < 4 ? .byte : .highByte
      operand.number = UInt8(index & 3)
    case 1: operand.size = .word
    case 2: operand.size = .doubleword
    case 3: operand.size = .quadword
    case 4: operand.size = .operand
    case 5: operand.size = .operandUpTo4
    case 6: operand.size = .generalByW
    case 7: operand.size = .address
    case 8:
      operand.method = .fixedSegment
      operand.size = .word
    case 9:
      operand.method = .fixedX87
      operand.size = .extendedReal
    default:
      if operand.number == 1 {
        operand.size = .quadword
        operand.number = 11
      } else {
        operand.method = .fixedVector
        operand.size = .octoword
      }
    }
    return operand
  }
}

extension Form {
  mutating func require(_ mask: UInt32, _ value: UInt32) {
    self.mask |= mask
    self.value = self.value & ~mask | value
  }
}

extension FlagUse {
  /// Condition codes in pairs: O, C, Z, CZ, S, P, SO, ZSO (AMD64 APM vol. 3, table 1-7).
  static func tested(byCondition code: UInt8) -> Flags {
    switch code >> 1 & 7 {
    case 0: .overflow
    case 1: .carry
    case 2: .zero
    case 3: [.carry, .zero]
    case 4: .sign
    case 5: .parity
    case 6: [.sign, .overflow]
    default: [.zero, .sign, .overflow]
    }
  }
}
