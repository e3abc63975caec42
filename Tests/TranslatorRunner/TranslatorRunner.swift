// Says what the translator of the rewriting technique takes for a block, on the code of a program or a library.
//
//   trivisor-translator FILE [kernel]     FILE: 64-bit ELF; `kernel`: as code of CPL 0

import Glibc
import TrivisorProcessStart
import TrivisorTranslation
import TrivisorVMM

@main
enum TranslatorRunner {
  static func main() throws {
    ProcessStart.end(try run())
  }

  private static func run() throws -> Int32 {
    let arguments = CommandLine.arguments
    guard arguments.count > 1, let code = ExecutableBytes(path: arguments[1]) else {
      print("usage: trivisor-translator FILE [kernel], FILE a 64-bit ELF")
      return 64
    }
    let meter = try TranslationMeter(memory: try GuestMemory(size: 256 << 20), isUser: arguments.count < 3)
    var began = timespec()
    var ended = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &began)
    var page: UInt64 = 0
    code.forEachPage { bytes in
      meter.translate(bytes, page: page, linear: 0xffff_ffff_8100_0000 &+ page << 12)
      page = (page + 1) & 0xffff
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ended)
    let nanoseconds = (ended.tv_sec - began.tv_sec) * 1_000_000_000 + ended.tv_nsec - began.tv_nsec
    let totals = meter.totals
    print(
      "\(totals.blocks) blocks, \(totals.guestBytes / max(totals.blocks, 1)) guest bytes a block,"
        + " \(totals.hostBytes * 10 / max(totals.guestBytes, 1)) tenths host bytes a guest byte,"
        + " \(nanoseconds / max(totals.blocks, 1)) ns a block")
    return 0
  }
}
