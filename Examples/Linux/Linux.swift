// A command in a Linux guest: its kernel's log through a pipe, its output as it comes, its status.
//
//     LinuxExample VMLINUZ 'uname -a; sort' < TEXT

import Trivisor

@main
struct Linux {
  static func main() async throws {
    guard CommandLine.arguments.count == 3 else {
      print("use: LinuxExample KERNEL COMMAND")
      return
    }
    let output = ByteStream()
    var command = LinuxCommand(shell: CommandLine.arguments[2])
    command.standardInput = .fileDescriptor(.standardInput)
    command.standardOutput = .stream(output)
    command.standardError = .fileDescriptor(.standardError)

    let (console, log) = try SerialPortConfiguration.pipe()
    var configuration = VirtualMachineConfiguration(
      bootLoader: LinuxBootLoader(kernel: FilePath(CommandLine.arguments[1])))
    configuration.linuxCommand = command
    configuration.serialPorts = [console]
    configuration.timeLimit = .seconds(240)

    let machine = VirtualMachine(configuration)
    try machine.start()
    async let lines = lineCount(of: log)
    for await line in output.lines { print(line) }
    let result = try await machine.result
    print("\(result.outcome); the kernel said \(try await lines) lines")
  }

  /// Reads a pipe to its end, on a thread that may wait.
  static func lineCount(of pipe: FileDescriptor) async throws -> Int {
    try await Task.detached {
      try pipe.closeAfter {
        var buffer = [UInt8](repeating: 0, count: 4096)
        var lines = 0
        while true {
          let count = try buffer.withUnsafeMutableBytes { try pipe.read(into: $0) }
          guard count > 0 else { return lines }
          lines += buffer[..<count].count { $0 == UInt8(ascii: "\n") }
        }
      }
    }.value
  }
}
