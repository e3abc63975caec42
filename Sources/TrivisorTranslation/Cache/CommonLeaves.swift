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
  /// The jump caches' second places, and both: twice for each mode, because its code may be for any linear address.
  private var searches: [Search] = []

  private struct Search {
    let all: UInt64
    let second: UInt64
  }

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
    searches.reserveCapacity(2 * StateLayout.modeLimit)
    for mode in 0..<StateLayout.modeLimit {
      for isRelative in [false, true] { searches.append(Self.search(mode, isRelative: isRelative, &code)) }
    }
  }

  /// Jumps to the RIP in the state block, or leaves for the site that is there already.
  private static func search(_ mode: Int, isRelative: Bool, _ code: inout Emitter) -> Search {
    let all = code.address
    code.load(Host.t1, .state(StateLayout.rip))
    JumpCacheCode.index(&code)
    let miss = JumpCacheCode.enter(mode: mode, isRelative: isRelative, isSecond: false, &code)
    miss.patch(to: code.address)
    let second = code.address
    let out = JumpCacheCode.enter(mode: mode, isRelative: isRelative, isSecond: true, &code)
    out.patch(to: code.address)
    code.jump(.state(StateLayout.exitRAXFlags))
    return Search(all: all, second: second)
  }

  func miss(view: Int, isWrite: Bool) -> UInt64 { firstMiss &+ missSize &* UInt64(view * 2 + (isWrite ? 1 : 0)) }

  /// Where a return goes on that the return cache does not know.
  func search(mode: Int, isRelative: Bool) -> UInt64 { searches[2 * mode + (isRelative ? 1 : 0)].all }

  /// Where `JumpCacheCode.enter` goes on that has not found a RIP at its first place.
  func searchSecond(mode: Int, isRelative: Bool) -> UInt64 { searches[2 * mode + (isRelative ? 1 : 0)].second }
}
