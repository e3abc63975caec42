// Short loops.
//
// A block that ends with a jump back into itself goes on with the loop's next rounds, a few of them, as if the code had been
// written down so often. The jump becomes one out of the loop, and what one round knows, the next one uses: one check
// serves the accesses of all of them (`BlockPlan+Sharing`), and flags that a round's end compared need not be kept.

import TrivisorInstructionSet

extension BlockPlan {
  /// How many instructions a block may have by rounds, and how many rounds.
  private static let unrolledLimit = 48
  private static let roundLimit = 4

  /// Appends further rounds if the last instruction jumps back into the block.
  mutating func planRounds() {
    guard is64, !mode.isSingleStepping, !mode.checksAccesses, key.variant == .usual, let last = instructions.last else {
      return
    }
    let next = key.rip &+ UInt64(last.end)
    let target = next &+ UInt64(bitPattern: last.instruction.immediate)
    guard last.instruction.operandSize == 8, isLinked(to: next), isLinked(to: target), target < next,
      let head = instructions.indices.first(where: { key.rip &+ UInt64(instructions[$0].offset) == target })
    else { return }
    let body = head..<instructions.count
    guard body.dropLast().allSatisfy({ instructions[$0].instruction.isPlain }),
      body.contains(where: {
        instructions[$0].instruction.hasModRMMemory && !instructions[$0].instruction.isHint
      })
    else { return }
    let rounds = min(Self.roundLimit, (Self.unrolledLimit - head) / body.count)
    guard rounds > 1 else { return }
    for _ in 1..<rounds { append(round: body) }
  }
}
