// Jumps between blocks.
//
// A direct jump within the page is patched to its target the first time it is taken: whoever is in this block is on a
// mapping of this page already. A jump to another page goes through a word behind the block, which holds the target's
// address as long as the translation of the target's page is as it was, and else that of the way out; where several processors
// run the code, each in an address space of its own, it is as an indirect one. An indirect one looks
// the linear RIP up in the jump cache of the mode, which is emptied when translations change. A near return first looks whether
// it comes back to where the call on its place of the stack came from (`ReturnCache`).
//
// Code for any linear address can't have such a word: what is on the next page is a matter of the address space. A jump to
// another page looks its linear page up in the processor's own table of code pages, and compares what is there with the
// physical page that it was linked for:
//
//     mov %gs:page, T1 ; lea distance(T1), T1                  the target's linear page
//     rorx $9, T1, T2 ; and $(4095 × 8), T2 ; mov %gs:table(T2), T2
//     xor T1, T2 ; cmp word(%rip), T2 ; jne out                is the physical page the same?
//     mov T1, %gs:page ; jmp target
//
// Wherever the flags are at the end of a block, in the host's register or in RAX, there they stay: the target has an entry for
// each (`Block`).

import TrivisorInstructionSet
import TrivisorX86

enum TransferCode {
  /// - Throws: `Refusal`, naming what stands in the way; nothing has been emitted then that matters.
  static func emit(_ instruction: Instruction, _ block: inout BlockEmitter) throws(Refusal) {
    // Width of the offsets: what is pushed and popped, and how far RIP reaches.
    let size = Int(instruction.operandSize)
    switch instruction.classification {
    case .jump: branch(to: target(instruction, block), isShort: isShort(instruction, block), &block)
    case .conditionalJump: conditionalJump(instruction, &block)
    case .loop: loop(instruction, &block)
    case .call:
      let target = target(instruction, block)
      if target > block.key.limit {
        StackCode.push(size: size, .refuseCall(size: size), &block)
        return
      }
      pushReturnAddress(size: size, &block)
      jump(
        to: target, isBranch: true, isShort: isShort(instruction, block), released: -Int32(size), &block)
    case .nearReturn:
      let released = Int32(truncatingIfNeeded: instruction.immediateSize == 0 ? 0 : instruction.immediate & 0xffff)
      StackCode.access(size: size, isWrite: false, .popTarget(size: size, released: released), &block)
      nearReturn(size: size, released: Int32(size) + released, &block)
    case .indirectJump, .indirectCall: try indirect(instruction, size: size, &block)
    default: throw Refusal(reason: "control transfer")
    }
  }

  private static func target(_ instruction: Instruction, _ block: borrowing BlockEmitter) -> UInt64 {
    let target = block.nextRIP &+ UInt64(bitPattern: instruction.immediate)
    if block.mode.isRelative { return target }
    switch instruction.operandSize {
    case 2: return target & 0xffff
    case 4: return target & 0xffff_ffff
    default: return target
    }
  }

  /// Only the low 16 bits of the target count, and they depend on where the code is.
  private static func isShort(_ instruction: Instruction, _ block: borrowing BlockEmitter) -> Bool {
    block.mode.isRelative && instruction.operandSize == 2
  }

  private static func conditionalJump(_ instruction: Instruction, _ block: inout BlockEmitter) {
    block.requireHostFlags()
    let target = target(instruction, block)
    let isShort = isShort(instruction, block)
    block.alignLink(opcodeLength: 2)
    let taken = block.code.jump32(condition: instruction.condition)
    if !isShort, block.plan.isLinked(to: target) {
      block.postpone(.chain(taken, target: target, inRAX: false))
      jump(to: block.nextRIP, &block)
      return
    }
    jump(to: block.nextRIP, &block)
    taken.patch(to: block.code.address)
    block.flags = .host
    branch(to: target, isShort: isShort, &block)
  }

  /// The jump at the end of a round behind which the next one follows: leaves where the loop's jump is not taken.
  static func loopExit(_ instruction: Instruction, _ block: inout BlockEmitter) {
    block.requireHostFlags()
    block.alignLink(opcodeLength: 2)
    let past = block.code.jump32(condition: Emitter.Condition.opposite(of: instruction.condition))
    block.postpone(.chain(past, target: block.nextRIP, inRAX: false))
    block.flags = .host
  }

  // MARK: LOOP

  /// LOOP, LOOPE, LOOPNE, JCXZ: E0–E3 itself with the count's width; the short jump goes over a near one.
  private static func loop(_ instruction: Instruction, _ block: inout BlockEmitter) {
    block.requireHostFlags()
    let isShort = instruction.addressSize == 2
    if isShort {
      // A count of 16 bits is extended, and its register's upper part comes back from T1.
      block.code.move(Host.t1, Host.rcx)
      block.code.loadZeroExtended(Host.rcx, .register(Host.rcx), size: 2)
    }
    let past = block.code.loop(
      instruction.opcode, isNarrow: instruction.addressSize == 4, prefixes: instruction.prefixes)
    if isShort { restoreShortCount(&block) }
    let target = target(instruction, block)
    if target > block.key.limit, instruction.operation != .jcxz {
      // The fault leaves the count as it was.
      block.code.lea(Host.rcx, .memory(base: Host.rcx, displacement: 1), size: Int(instruction.addressSize))
    }
    branch(to: target, isShort: Self.isShort(instruction, block), &block)
    past.patch(to: block.code.address)
    block.flags = .host
    if isShort { restoreShortCount(&block) }
    jump(to: block.nextRIP, &block)
  }

  private static func restoreShortCount(_ block: inout BlockEmitter) {
    block.code.store(Host.rcx, .register(Host.t1), size: 2)
    block.code.move(Host.rcx, Host.t1)
  }

  // MARK: CALL

  /// - Parameter isIndirect: the target is in the state block's scratch.
  private static func pushReturnAddress(size: Int, isIndirect: Bool = false, _ block: inout BlockEmitter) {
    block.isCalling = true
    StackCode.push(size: size, .pushReturnAddress(block.nextRIP, size: size, isIndirect: isIndirect), &block)
  }

  static func pushReturnAddress(
    _ address: UInt64, size: Int, isIndirect: Bool, on place: Place, _ block: inout BlockEmitter
  ) {
    block.code.lea(Host.t1, place)
    if isIndirect, size == 8 {
      checkCanonicalTarget(&block)
    } else if isIndirect, !block.key.isFlat {
      checkTargetLimit(size: size, &block)
    }
    if block.mode.isRelative {
      block.code.load(Host.t2, .state(StateLayout.page))
      block.code.lea(
        Host.t2, .memory(base: Host.t2, displacement: Int32(truncatingIfNeeded: Int64(bitPattern: address))))
    } else {
      block.code.loadConstant(Host.t2, address)
    }
    block.faulting { $0.code.store(Host.t2, .memory(base: Host.t1), size: size) }
    StackCode.moveStackPointer(by: -Int32(size), &block)
    if usesReturnCache(size: size, block), block.plan.isLinked(to: address) {
      noteReturn(to: address, size: size, &block)
    }
  }

  /// #GP(0) for a call's target that is not canonical: behind the stack's faults, before anything is pushed. Clobbers T2.
  private static func checkCanonicalTarget(_ block: inout BlockEmitter) {
    block.code.load(Host.t2, .state(StateLayout.scratch))
    block.code.shift(.sar, Host.t2, by: 47, w: true)
    block.code.arithmetic(.add, .register(Host.t2), short: 1)
    block.code.arithmetic(.cmp, .register(Host.t2), short: 1)
    block.flags = .rax
    let beyond = block.code.jump32(condition: Emitter.Condition.above)
    block.postpone(.raise(beyond, .general, rip: block.rip))
  }

  /// A call beyond CS must not push: compares `size` bytes in the scratch with the limit. The flags are in RAX.
  private static func checkTargetLimit(size: Int, _ block: inout BlockEmitter) {
    block.code.loadZeroExtended(Host.t2, .state(StateLayout.scratch), size: size)
    block.code.arithmetic(.cmp, .register(Host.t2), immediate: Int32(truncatingIfNeeded: block.key.limit))
    let beyond = block.code.jump32(condition: Emitter.Condition.above)
    block.flags = .rax
    block.postpone(.raise(beyond, .general, rip: block.rip))
  }

  // MARK: Ends of blocks

  /// A branch that is taken. Beyond CS the fault is its own.
  private static func branch(to target: UInt64, isShort: Bool, _ block: inout BlockEmitter) {
    if target > block.key.limit {
      block.exit(.raise(.general))
    } else {
      jump(to: target, isBranch: true, isShort: isShort, &block)
    }
  }

  /// The end of a block that goes on at `target`.
  /// - Parameters:
  ///   - isBranch: the guest has jumped there.
  ///   - isShort: only 16 bits of where that is count.
  ///   - released: how much RSP has grown by it: less than 0 for a call.
  static func jump(
    to target: UInt64, isBranch: Bool = false, isShort: Bool = false, released: Int32 = 0, _ block: inout BlockEmitter
  ) {
    let key = block.key
    if target > key.limit {
      block.exit(.raise(.general), rip: target)
      return
    }
    let distance = Int32(exactly: Int64(bitPattern: target))
    let isFar = block.mode.isRelative ? distance == nil : block.is64 && !LinearAddress.isCanonical(target)
    if block.mode.isSingleStepping || !key.isFlat || isFar || isShort {
      block.loadCodeAddress(Host.t1, target)
      if isShort { block.code.loadZeroExtended(Host.t1, .register(Host.t1), size: 2) }
      indirect(released: released, isBranch: isBranch, &block)
      return
    }
    if block.plan.isLinked(to: target) {
      let inRAX = block.leaveFlags()
      block.alignLink(opcodeLength: 1)
      block.postpone(.chain(block.code.jump32(), target: target, inRAX: inRAX))
    } else if block.mode.isRelative, let distance {
      let branch = isBranch ? Int32(truncatingIfNeeded: block.rip) : -1
      cross(to: target, pages: distance & ~4095, branch: branch, released: released, &block)
    } else if block.isShared {
      // The word would be true in the address space of one of them.
      block.loadCodeAddress(Host.t1, target)
      indirect(released: released, isBranch: isBranch, &block)
    } else {
      let inRAX = block.leaveFlags()
      block.postpone(.across(block.code.jumpThroughWord(), target: target, inRAX: inRAX))
    }
  }

  /// The end of a block of code for any linear address, which goes on so many bytes of whole pages from its own page.
  private static func cross(
    to target: UInt64, pages: Int32, branch: Int32, released: Int32, _ block: inout BlockEmitter
  ) {
    block.requireSavedFlags()
    let (miss, word) = comparePage(at: pages, &block)
    block.code.store(Host.t1, .state(StateLayout.page))
    block.alignLink(opcodeLength: 1)
    block.postpone(
      .cross(
        miss, word: word, jump: block.code.jump32(), target: target, branch: branch, released: released))
  }

  /// Compares a page's entry in the table of code pages with a word; leaves its linear address in T1. Clobbers T2 and flags.
  /// - Returns: the jump that is taken where they differ, and the operand that names the word.
  private static func comparePage(at distance: Int32, _ block: inout BlockEmitter) -> (PatchPoint, PatchPoint) {
    block.code.load(Host.t1, .state(StateLayout.page))
    if distance != 0 { block.code.lea(Host.t1, .memory(base: Host.t1, displacement: distance)) }
    // The page's number, times 8.
    block.code.rotateRight(Host.t2, Host.t1, by: 9)
    block.code.arithmetic(.and, .register(Host.t2), immediate: Int32(StateLayout.codeTLBEntries - 1) << 3)
    block.code.load(Host.t2, .stateIndexed(Host.t2, scale: 0, offset: StateLayout.codeTLB))
    block.code.arithmetic(.xor, Host.t2, .register(Host.t1), w: true)
    let word = block.code.compareWithWord()
    return (block.code.jump32(condition: Emitter.Condition.notEqual), word)
  }

  /// At the entry of a block whose first instruction goes on in another page: that page must be the one it was made of.
  static func checkSecondPage(_ block: inout BlockEmitter) {
    block.requireSavedFlags()
    let (miss, word) = comparePage(at: 4096, &block)
    block.flags = .rax
    block.postpone(.refetch(miss, word: word, rip: block.rip, page: block.key.secondPage))
  }

  private static func indirect(_ instruction: Instruction, size: Int, _ block: inout BlockEmitter) throws(Refusal) {
    let isCall = instruction.classification == .indirectCall
    if let memory = instruction.memoryOperand {
      try StackCode.loadToScratch(memory, size: size, &block)
      if isCall { pushReturnAddress(size: size, isIndirect: true, &block) }
      block.code.load(Host.t1, .state(StateLayout.scratch))
    } else {
      guard case .general(let register)? = instruction.operand(at: 0)?.kind else { throw Refusal(reason: "operand") }
      let source = block.fetch(register, into: Host.t1)
      if isCall {
        // The target may be RSP, which the call changes.
        block.code.store(source, .state(StateLayout.scratch))
        pushReturnAddress(size: size, isIndirect: true, &block)
        block.code.load(Host.t1, .state(StateLayout.scratch))
      } else if source != Host.t1 {
        block.code.move(Host.t1, source)
      }
      if size != 8 { block.code.loadZeroExtended(Host.t1, .register(Host.t1), size: size) }
    }
    indirect(released: isCall ? -Int32(size) : 0, &block)
  }

  /// The end of a block that goes on at the RIP in T1.
  private static func indirect(released: Int32 = 0, isBranch: Bool = true, _ block: inout BlockEmitter) {
    block.requireSavedFlags()
    block.code.store(Host.t1, .state(StateLayout.rip))
    if block.mode.isSingleStepping || !block.key.isFlat {
      block.exit(.indirect(released: released, isBranch: isBranch))
      return
    }
    JumpCacheCode.index(&block.code)
    let miss = JumpCacheCode.enter(
      mode: block.key.modeNumber, isRelative: block.mode.isRelative, isSecond: false, &block.code)
    block.postpone(.indirect(miss, released: released, rip: block.rip))
  }

  // MARK: Returns

  /// Whether calls and returns of this size go by the return cache.
  private static func usesReturnCache(size: Int, _ block: borrowing BlockEmitter) -> Bool {
    block.key.isFlat && !block.mode.isSingleStepping && block.mode.stackSize == UInt8(size)
      && size == (block.is64 ? 8 : 4)
  }

  /// A word of an entry: 0 for the return address, 1 for the code there, 2 for the key.
  /// - Parameter register: holds the place on the stack, masked.
  static func returnEntry(_ register: UInt8, word: Int32, size: Int) -> Place {
    .stateIndexed(register, scale: size == 8 ? 2 : 3, offset: StateLayout.returns + 8 * word)
  }

  private static func returnMask(size: Int) -> Int32 { Int32((StateLayout.returnEntries - 1) * size) }

  /// Behind the push of a return address, which is in T2: what its return goes on with. The host's flags have been given up.
  private static func noteReturn(to address: UInt64, size: Int, _ block: inout BlockEmitter) {
    block.code.load(Host.t1, .register(Host.rsp), w: false)
    block.code.arithmetic(.and, .register(Host.t1), immediate: returnMask(size: size))
    block.code.store(Host.t2, returnEntry(Host.t1, word: 0, size: size))
    block.alignLink(opcodeLength: 3)
    block.postpone(.returnPoint(block.code.loadCodeAddress(), target: address, size: size))
    block.code.store(Host.t2, returnEntry(Host.t1, word: 1, size: size))
    block.code.load(Host.t2, .state(StateLayout.returnKey(mode: block.key.modeNumber)))
    block.code.store(Host.t2, returnEntry(Host.t1, word: 2, size: size))
  }

  /// The end of a block that returns to the RIP in T1, which was on the stack.
  private static func nearReturn(size: Int, released: Int32, _ block: inout BlockEmitter) {
    guard usesReturnCache(size: size, block) else {
      indirect(released: released, &block)
      return
    }
    block.requireSavedFlags()
    block.code.store(Host.t1, .state(StateLayout.rip))
    block.code.lea(Host.t2, .memory(base: Host.rsp, displacement: 0 &- released), w: false)
    block.code.arithmetic(.and, .register(Host.t2), immediate: returnMask(size: size))
    block.code.arithmetic(.cmp, Host.t1, returnEntry(Host.t2, word: 0, size: size), w: true)
    let otherAddress = block.code.jump32(condition: Emitter.Condition.notEqual)
    block.code.load(Host.t1, .state(StateLayout.returnKey(mode: block.key.modeNumber)))
    block.code.arithmetic(.cmp, Host.t1, returnEntry(Host.t2, word: 2, size: size), w: true)
    let otherKey = block.code.jump32(condition: Emitter.Condition.notEqual)
    if block.mode.isRelative {
      block.code.load(Host.t1, .state(StateLayout.rip))
      block.code.arithmetic(.and, .register(Host.t1), immediate: ~4095, w: true)
      block.code.store(Host.t1, .state(StateLayout.page))
    }
    block.code.jump(returnEntry(Host.t2, word: 1, size: size))
    block.postpone(.nearReturn(otherAddress, otherKey, released: released, rip: block.rip))
  }
}
