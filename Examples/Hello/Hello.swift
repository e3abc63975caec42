// A guest that is part of the package, under the technique that this host offers; its console line by line.

import Trivisor

@main
struct Hello {
  static func main() async throws {
    let console = ByteStream()
    var configuration = VirtualMachineConfiguration(
      bootLoader: SampleGuest("hello", commandLine: CommandLine.arguments.dropFirst().joined(separator: " ")))
    configuration.serialPorts = [SerialPortConfiguration(output: .stream(console))]
    configuration.timeLimit = .seconds(60)

    let machine = VirtualMachine(configuration)
    async let result = machine.run()
    for await line in console.lines { print(line) }
    print(try await result)
  }
}
