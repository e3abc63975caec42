/// How translated code looks into a jump cache.
enum JumpCacheCode {
  /// Leaves in T2 where the entry of the RIP in T1 is, from the table's begin. `JumpCache.index` computes the same. Destroys the flags.
  static func index(_ code: inout Emitter) {
    code.move(Host.t2, Host.t1)
    code.shift(.shr, Host.t2, by: StateLayout.jumpCacheShift, w: true)
    code.arithmetic(.xor, .register(Host.t2), Host.t1)
    code.arithmetic(.and, .register(Host.t2), immediate: Int32(StateLayout.jumpCacheEntries - 1))
    code.shift(.shl, Host.t2, by: 4)
  }

  /// Goes to the RIP in T1 if it is at one of the two places for it, which T2 names.
  /// - Returns: the jump that is taken if it is not.
  static func enter(mode: Int, isRelative: Bool, isSecond: Bool, _ code: inout Emitter) -> PatchPoint {
    let entry = StateLayout.jumpCache(mode: mode, isSecond: isSecond)
    code.arithmetic(.cmp, Host.t1, .stateIndexed(Host.t2, scale: 0, offset: entry), w: true)
    let miss = code.jump32(condition: Emitter.Condition.notEqual)
    if isRelative {
      code.arithmetic(.and, .register(Host.t1), immediate: ~4095, w: true)
      code.store(Host.t1, .state(StateLayout.page))
    }
    code.jump(.stateIndexed(Host.t2, scale: 0, offset: entry + 8))
    return miss
  }
}
