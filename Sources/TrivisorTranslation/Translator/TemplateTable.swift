import TrivisorInstructionSet

/// Finds the template of an instruction, or makes it. Programs use few thousand encodings over and over.
///
/// Templates stay where they are while a block is made; between blocks a table that is full begins anew.
struct TemplateTable: ~Copyable {
  private static let capacity = 1 << 14
  private static let limit = capacity / 2

  /// A template's number plus 1, or 0 where nothing is, and in the upper half what its key's hash has over: so that others need
  /// not be looked at.
  private let slots: UnsafeMutablePointer<UInt32>
  private var templates = RecordList<InstructionTemplate>()

  init() {
    slots = .allocate(capacity: Self.capacity)
    slots.initialize(repeating: 0, count: Self.capacity)
  }

  deinit { slots.deallocate() }

  /// More than a block has instructions.
  private static let templatesOfBlock = 64

  /// Makes sure that a block's templates fit; what is there goes if need be.
  /// - Returns: `false` if the host has no memory for them. Once it was `true`, it is so always.
  @discardableResult
  mutating func makeRoom() -> Bool {
    if templates.count + Self.templatesOfBlock <= Self.limit, templates.makeRoom(for: Self.templatesOfBlock) {
      return true
    }
    templates.removeAll()
    slots.update(repeating: 0, count: Self.capacity)
    return templates.makeRoom(for: Self.templatesOfBlock)
  }

  mutating func template(of instruction: Instruction) -> UnsafePointer<InstructionTemplate> {
    let key = InstructionTemplate.Key(instruction)
    let hash = key.hash
    let tag = hash & 0xffff_0000
    var index = hash & (Self.capacity - 1)
    while slots[index] != 0 {
      if slots[index] & 0xffff_0000 == tag {
        let found = templates.address(of: Int(slots[index] & 0xffff) - 1)
        if found.pointee.key == key { return found }
      }
      index = (index + 1) & (Self.capacity - 1)
    }
    templates.append(InstructionTemplate(instruction, key))
    slots[index] = UInt32(tag) | UInt32(truncatingIfNeeded: templates.count)
    return templates.address(of: templates.count - 1)
  }
}
