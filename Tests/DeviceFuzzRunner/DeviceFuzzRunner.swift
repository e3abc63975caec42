// Random drivers in front of the virtio devices, for as many requests as one likes. What ends the process, a trap or a device that
// hangs, leaves a last line that says how to have it again.
//
//     trivisor-fuzz-devices INPUTS [SEED [NAME [SESSION]]]
//     trivisor-fuzz-devices --list

import Glibc
import TrivisorDeviceFuzz
import TrivisorVMM

@main
struct DeviceFuzzRunner {
  /// Steps of a session, a few inputs each.
  private static let sessionSteps = 2000
  /// How often it tells how far it is, in inputs.
  private static let reportInterval = 1_000_000
  /// A session that takes longer hangs, in seconds.
  private static let patience: UInt32 = 120
  /// In KiB: what the process may grow by after its first tenth.
  private static let growthLimit = 32 << 10
  /// Statuses: a finding, wrong usage.
  private static let (found, usage): (Int32, Int32) = (1, 64)

  /// What is written when a signal ends the process: `count` bytes of text.
  private struct LastWords: @unchecked Sendable {
    // Unchecked: written between sessions, and read by a signal's handler, by the one thread that works.
    static let capacity = 512
    let text = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: 8)
    let count = UnsafeMutablePointer<Int>.allocate(capacity: 1)

    func set(_ line: String) {
      let bytes = Array(line.utf8.prefix(Self.capacity))
      text.copyBytes(from: bytes)
      count.pointee = bytes.count
    }

    /// Of what a signal's handler may do.
    func tell() { write(STDOUT_FILENO, text.baseAddress, count.pointee) }
  }

  private static let lastWords = LastWords()

  static func main() {
    let arguments = CommandLine.arguments.dropFirst()
    if arguments.first == "--list" {
      for kind in DeviceFuzzer.Kind.allCases { print(kind.rawValue) }
      return
    }
    let words = Array(arguments)
    func word(_ index: Int) -> String? { words.indices.contains(index) ? words[index] : nil }
    let seed = word(1).map { UInt64($0) } ?? monotonicNanoseconds()
    let kinds = word(2).map { name in DeviceFuzzer.Kind(rawValue: name).map { [$0] } } ?? DeviceFuzzer.Kind.allCases
    guard (1...4).contains(words.count), let inputs = Int(words[0]), inputs > 0, let seed, let kinds,
      let first = Int(word(3) ?? "0"), first >= 0
    else {
      print("use: trivisor-fuzz-devices INPUTS [SEED [NAME [SESSION]]], or trivisor-fuzz-devices --list")
      exit(usage)
    }
    // What the host's end of a socket misses is no end of this.
    signal(SIGPIPE, SIG_IGN)
    lastWords.set("")
    for number in [SIGALRM, SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGABRT, SIGFPE] {
      signal(number) { number in
        DeviceFuzzRunner.lastWords.tell()
        signal(number, SIG_DFL)
        raise(number)
      }
    }
    for kind in kinds {
      guard fuzz(kind, seed: seed, inputs: inputs, first: first) else { exit(found) }
    }
  }

  /// - Returns: whether nothing was found.
  private static func fuzz(_ kind: DeviceFuzzer.Kind, seed: UInt64, inputs wanted: Int, first: Int) -> Bool {
    let began = monotonicNanoseconds()
    let fuzzer = DeviceFuzzer(kind, seed: seed)
    var (inputs, session, told) = (0, first, 0)
    var faults: Set<String> = []
    var before: (memory: Int, descriptors: Int)?
    while inputs < wanted {
      let again = "\(kind.rawValue), seed \(seed), session \(session)"
      lastWords.set("\(again), ends the process or hangs, after \(inputs) inputs\n")
      alarm(patience)
      do {
        let outcome = try fuzzer.run(session: session, steps: sessionSteps)
        inputs += outcome.inputs
        faults.formUnion(outcome.faults)
      } catch {
        tell("\(again): \(error)")
        return false
      }
      session += 1
      let now = (memory: residentSize(), descriptors: descriptorCount())
      if inputs >= wanted / 10 {
        let base = before ?? now
        before = base
        guard now.memory <= base.memory + growthLimit, now.descriptors <= base.descriptors else {
          tell(
            "\(again): the process grows, from \(base.memory) KiB and \(base.descriptors) descriptors to \(now.memory) and "
              + "\(now.descriptors)")
          return false
        }
      }
      if inputs - told >= reportInterval, inputs < wanted {
        told = inputs
        tell("\(kind.rawValue), seed \(seed): \(inputs) inputs, \(now.memory) KiB, \(now.descriptors) descriptors")
      }
    }
    alarm(0)
    let seconds = max(1, (monotonicNanoseconds() - began) / 1_000_000_000)
    tell(
      "\(kind.rawValue), seed \(seed): \(inputs) inputs in \(session - first) sessions, \(UInt64(inputs) / seconds) a second, "
        + "\(faults.count) kinds of faults, \(residentSize()) KiB, \(descriptorCount()) descriptors; no finding")
    return true
  }

  /// At once, also into a file.
  private static func tell(_ line: String) {
    print(line)
    fflush(nil)
  }

  /// In KiB, as it is now (proc(5), statm).
  private static func residentSize() -> Int {
    var text = [UInt8](repeating: 0, count: 256)
    let file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
    defer { close(file) }
    let count = max(0, read(file, &text, text.count))
    let pages = String(decoding: text[..<count], as: UTF8.self).split(separator: " ").dropFirst().first
    return (pages.flatMap { Int($0) } ?? 0) * (sysconf(Int32(_SC_PAGESIZE)) >> 10)
  }

  private static func descriptorCount() -> Int {
    guard let folder = opendir("/proc/self/fd") else { return 0 }
    defer { closedir(folder) }
    var count = 0
    while readdir(folder) != nil { count += 1 }
    return count
  }
}
