// Fuzz targets under LLVM's libFuzzer, which looks for inputs that reach new code. tools/fuzz builds it so; without the
// fuzzer, inputs can be tried again all the same.
//
//     trivisor-fuzz                             the targets' names
//     trivisor-fuzz TARGET seeds FOLDER         writes the target's seeds and corpus there
//     trivisor-fuzz TARGET pack FILE...         prints these inputs as a corpus, the shortest first, as many as one may have
//     trivisor-fuzz TARGET try FILE...          gives it these inputs, and says how long each took
//     trivisor-fuzz TARGET fuzz WORDS...        libFuzzer's own options and folders

import Glibc
import SystemPackage
import TrivisorCFuzzer
import TrivisorFuzzTargets
import TrivisorProcessStart

@main
enum FuzzRunner {
  /// The one that this process is for. The fuzzer calls a function without a context.
  nonisolated(unsafe) private static var target: (any FuzzTarget)?

  static func main() throws {
    let words = Array(ProcessStart.arguments.dropFirst())
    guard let name = words.first else {
      for target in FuzzTargets.all { print(target.name) }
      ProcessStart.end(0)
    }
    guard let type = FuzzTargets.named(name), words.count > 2 else {
      print("use: trivisor-fuzz TARGET seeds FOLDER, try FILE... or fuzz OPTIONS; the targets are:")
      for target in FuzzTargets.all { print("  \(target.name)") }
      ProcessStart.end(64)
    }
    let rest = Array(words.dropFirst(2))
    switch words[1] {
    case "seeds":
      for (number, seed) in try (type.seeds + FuzzTargets.corpus(of: name)).enumerated() {
        try write(seed, to: FilePath(rest[0]).appending("seed-\(number)"))
      }
    case "pack": try pack(rest)
    case "try":
      target = try type.init()
      for path in rest { try attempt(path) }
    case "fuzz":
      guard cfuzzer_is_there() != 0 else {
        print("there is no fuzzer in this program: tools/fuzz builds one with it")
        ProcessStart.end(64)
      }
      target = try type.init()
      fuzz(name, ["-max_len=\(type.sizeLimit)"] + rest)
    default: ProcessStart.end(64)
    }
    ProcessStart.end(0)
  }

  private static func write(_ bytes: [UInt8], to path: FilePath) throws {
    let file = try FileDescriptor.open(
      path, .writeOnly, options: [.create, .truncate], permissions: [.ownerReadWrite, .groupRead, .otherRead])
    try file.closeAfter { _ = try file.writeAll(bytes) }
  }

  private static func pack(_ paths: [String]) throws {
    var room = 32 << 10
    let inputs = try paths.map { try FuzzTargets.contents(FilePath($0)) }.sorted { $0.count < $1.count }
    for input in inputs where 2 * input.count < room {
      room -= 2 * input.count + 1
      print(input.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined())
    }
  }

  private static func attempt(_ path: String) throws {
    let bytes = try FuzzTargets.contents(FilePath(path))
    var began = timespec()
    var ended = timespec()
    clock_gettime(CLOCK_MONOTONIC, &began)
    bytes.withUnsafeBytes { target?.run($0) }
    clock_gettime(CLOCK_MONOTONIC, &ended)
    let microseconds = (ended.tv_sec - began.tv_sec) * 1_000_000 + (ended.tv_nsec - began.tv_nsec) / 1000
    print("\(path): \(bytes.count) bytes, \(microseconds) µs")
  }

  private static func fuzz(_ name: String, _ options: [String]) -> Never {
    var words: [UnsafeMutablePointer<CChar>?] =
      (["\(ProcessStart.arguments[0]) \(name) fuzz"] + options).map { strdup($0) } + [nil]
    let count = Int32(words.count - 1)
    let status = words.withUnsafeMutableBufferPointer { words in
      cfuzzer_run(count, words.baseAddress) { bytes, count in
        FuzzRunner.target?.run(UnsafeRawBufferPointer(start: bytes, count: count))
        return 0
      }
    }
    ProcessStart.end(status)
  }
}
