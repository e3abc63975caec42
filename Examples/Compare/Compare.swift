// The same guest under each technique that can run it here, and how long it took.

import Trivisor

@main
struct Compare {
  static func main() async throws {
    var configuration = VirtualMachineConfiguration(bootLoader: SampleGuest("compute", commandLine: "scale=1"))
    configuration.timeLimit = .seconds(120)
    for technique in Technique.allCases {
      configuration.technique = .named(technique)
      do {
        let result = try await VirtualMachine(configuration).run()
        print("\(technique): \(result.guestTime), \(result.outcome)")
      } catch VirtualMachineError.host(let reason) {
        print("\(technique): \(reason)")
      }
    }
  }
}
