/// The ends of all ways out of blocks, written once at the start of the code cache: a block only says which site it is.
struct CommonLeaves {
  /// With the flags in the host's register.
  private(set) var host: UInt64 = 0
  /// With the flags in RAX.
  private(set) var rax: UInt64 = 0
  /// Behind a check that failed: brings the address back and leaves it in the state block. One for each view and kind of access,
  /// all of one size.
  private var firstMiss: UInt64 = 0
  private var missSize: UInt64 = 0

  init() {}

  init(writing code: inout Emitter) {
    host = code.address
    code.jump(.state(StateLayout.exitHostFlags))
    rax = code.address
    code.jump(.state(StateLayout.exitRAXFlags))
    firstMiss = code.address
    for view in 0..<StateLayout.viewCount {
      for isWrite in [false, true] {
        let table = StateLayout.tlbTable(view: view, isWrite: isWrite)
        code.arithmetic(.xor, Host.t1, .stateIndexed(Host.t2, scale: 0, offset: table), w: true)
        code.store(Host.t1, .state(StateLayout.address))
        code.jump(.state(StateLayout.exitRAXFlags))
        if missSize == 0 { missSize = code.address &- firstMiss }
      }
    }
  }

  func miss(view: Int, isWrite: Bool) -> UInt64 { firstMiss &+ missSize &* UInt64(view * 2 + (isWrite ? 1 : 0)) }
}
