// Whether every processor feature that CPUID announces works, and whether those that it doesn't are not there.
//
// For each feature with instructions of its own, one of them is executed, and its result looked at. A processor or a monitor
// keeps its promises if each feature that is announced runs; and a monitor that shows a processor of another model must make
// the instructions of what that one lacks undefined, as its manual says.
//
// On the command line: `kernel`, to execute them in kernel mode; `exact`, by which an instruction that runs without being
// announced is an error, too; `plain` leaves out what must be enabled by XSETBV, which monitors were seen to refuse.

import CFeatures
import CPlatform

@main
enum Features {
  /// XCR0's components: x87, SSE, AVX.
  static let components: UInt32 = 7

  nonisolated(unsafe) static var announced: UInt64 = 0
  nonisolated(unsafe) static var failures: UInt64 = 0

  static func main() {
    let inKernel = Arguments.contains("kernel")
    let isExact = Arguments.contains("exact")
    let isPlain = Arguments.contains("plain")

    guard let process = UserProcess(argument: 0, dataPages: 1, stackPages: 1),
      let page = Platform.allocateFrame()?.bytes
    else {
      Console.print("No memory for the tables.")
      Platform.exit(1)
    }
    let hasXSAVE = !isPlain && featuresIdentify(1, 0, 2) >> 26 & 1 != 0
    let hasAVX = hasXSAVE && featuresIdentify(1, 0, 2) >> 28 & 1 != 0
    let hasBases = featuresIdentify(0, 0, 0) >= 7 && featuresIdentify(7, 0, 1) & 1 != 0
    features_enable((hasXSAVE ? 1 : 0) | (hasBases ? 2 : 0), hasAVX ? components : components & 3)
    Platform.trapHandler = { Features.handleTrap($0) }
    // Into user mode and back once, so that the ways between the modes are set up.
    process.frame.pointee.rip = userAddress(featuresReturn())
    _ = process.run()

    for index in 0..<featureRowCount() {
      let row = featureRow(index)
      if !inKernel, row.flags & featureIsForKernels != 0 { continue }
      if !hasXSAVE, row.flags & (featureNeedsXSAVE | featureNeedsAVXState) != 0, isPlain { continue }
      let isAnnounced = isAnnounced(row)
      if !isAnnounced, !isExact, row.flags & featureIsPopElsewhere != 0 { continue }
      Console.write("\(inKernel ? "kernel" : "user  " as StaticString) * ")
      printName(row)
      Console.write("\(isAnnounced ? "announced, " : "not announced, " as StaticString)")
      let result = inKernel ? runInKernelMode(row, page) : runInUserMode(row, process)
      judge(row, isAnnounced: isAnnounced, result, isExact: isExact)
    }
    if failures == 0 {
      Console.print("What is announced works.")
      Platform.exit(0)
    }
    Console.print("\(failures) of \(featureRowCount()) are not as announced.")
    Platform.exit(1)
  }

  /// Functions beyond the last one of their range announce nothing.
  static func isAnnounced(_ row: FeatureRow) -> Bool {
    guard featuresIdentify(row.function & 0x8000_0000, 0, 0) >= row.function else { return false }
    return featuresIdentify(row.function, row.index, row.result) >> row.bit & 1 != 0
  }

  static func judge(_ row: FeatureRow, isAnnounced: Bool, _ result: UInt64, isExact: Bool) {
    var isWrong = true
    switch result {
    case featureRight:
      isWrong = !isAnnounced && isExact && row.flags & featureMeansAnother == 0
      Console.write("ran")
    case featureWrong:
      // Another instruction's result.
      isWrong = isAnnounced || row.flags & featureMeansAnother == 0
      Console.write("ran with another result")
    case featureTrapped | UInt64(trapVectorInvalidOpcode):
      isWrong = isAnnounced
      Console.write("invalid opcode")
    default:
      Console.write("vector \(result & 0xff)")
    }
    if isWrong { failures &+= 1 }
    Console.print("\(isWrong ? ": WRONG" : "" as StaticString)")
  }

  static func printName(_ row: FeatureRow) {
    var length = 0
    while row.name[length] != 0 {
      Platform.write(UInt8(bitPattern: row.name[length]))
      length &+= 1
    }
    while length < 14 {
      Platform.write(UInt8(ascii: " "))
      length &+= 1
    }
  }

  // MARK: Modes

  static func userAddress(_ address: UInt64) -> UInt64 {
    Platform.windowStart &+ address &- userProgramStart()
  }

  static func runInUserMode(_ row: FeatureRow, _ process: UserProcess) -> UInt64 {
    let frame = process.frame
    let stack = UserProcess.stackEnd &- 8
    frame.pointee.rip = userAddress(row.code)
    frame.pointee.cs = Platform.userCodeSelector
    frame.pointee.ss = Platform.userDataSelector
    frame.pointee.rflags = 0x2
    frame.pointee.rsp = stack
    frame.pointee.rdi = UserProcess.dataStart
    UnsafeMutablePointer<UInt64>(bitPattern: UInt(stack))?.pointee = userAddress(featuresReturn())
    switch process.run() {
    case .systemCall(let result, _, _): return result & 0xffff_ffff
    default: return featureTrapped | frame.pointee.vector
    }
  }

  nonisolated(unsafe) static var trapVector: UInt64 = 0

  static func runInKernelMode(_ row: FeatureRow, _ page: UnsafeMutableRawPointer) -> UInt64 {
    let result = feature_attempt(row.code, page)
    return result == featureTrapped ? featureTrapped | trapVector : result & 0xffff_ffff
  }

  /// Abandons what trapped.
  static func handleTrap(_ frame: UnsafeMutablePointer<TrapFrame>) {
    trapVector = frame.pointee.vector
    frame.pointee.rip = featureTrapPoint()
    frame.pointee.rsp = featureStack()
    frame.pointee.rflags = 0x2
  }
}
