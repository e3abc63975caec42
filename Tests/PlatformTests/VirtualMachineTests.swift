import TrivisorBoot
import TrivisorDevices
import TrivisorEmbeddedGuests
import Glibc
import TrivisorHardwareTechnique
import TrivisorPlatform
import Testing
import TrivisorVMM

private let hasKVM = access("/dev/kvm", R_OK | W_OK) == 0

@Suite("A virtual machine as a library", .enabled(if: hasKVM))
struct VirtualMachineTests {
  private func machine(
    _ guest: String, _ commandLine: String = "", change: (inout PlatformConfiguration) -> Void = { _ in }
  ) throws -> (VirtualMachine, MemorySink) {
    let guest = try #require(EmbeddedGuest.named(guest))
    var request = BootRequest(image: try BootImage(name: guest.name, bytes: guest.bytes))
    request.commandLine = commandLine
    var configuration = PlatformConfiguration(boot: request)
    let sink = MemorySink()
    configuration.serialPorts = [SerialPortConfiguration(output: sink)]
    change(&configuration)
    #expect(configuration.validate(for: HardwareTechnique()).isEmpty)
    return (VirtualMachine(configuration, technique: HardwareTechnique()), sink)
  }

  @Test("a run gives the guest's output and code, and the states on the way")
  func run() async throws {
    let (machine, sink) = try machine("hello")
    let states = machine.states
    let result = try await machine.run()
    #expect(result.outcome == .exited(code: 0))
    #expect(sink.text.contains("Hello from"))
    #expect(result.counters[.portWrite] > 10)
    var seen: [VirtualMachine.State] = []
    for await state in states { seen.append(state) }
    #expect(seen == [.created, .running, .ended(.exited(code: 0))])
  }

  @Test("a machine that is stopped before it runs ends at once")
  func stoppedBefore() async throws {
    let (machine, _) = try machine("crash", "loop")
    machine.stop()
    #expect(try await machine.run().outcome == .stopped(.request))
  }

  @Test("an endless loop is paused, resumed and stopped")
  func pause() async throws {
    let (machine, _) = try machine("crash", "loop")
    async let result = machine.run()
    while machine.state != .running { try await Task.sleep(for: .microseconds(1000)) }
    for _ in 0..<5 {
      machine.pause()
      #expect(machine.state == .paused)
      machine.resume()
      #expect(machine.state == .running)
    }
    machine.stop()
    #expect(try await result.outcome == .stopped(.request))
  }

  @Test("a time limit holds over restarts of a guest that resets for ever")
  func restarts() async throws {
    // mov al, 0xfe; out 0x64, al: the keyboard controller's reset.
    var sector: [UInt8] = [0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfe]
    sector += Array(repeating: 0, count: 510 - sector.count) + [0x55, 0xaa]
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 512, alignment: 1)
    bytes.copyBytes(from: sector)
    var configuration = PlatformConfiguration(
      boot: BootRequest(image: try BootImage(name: "resets", bytes: UnsafeRawBufferPointer(bytes))))
    let once = VirtualMachine(configuration, technique: HardwareTechnique())
    #expect(try await once.run().outcome == .reset)
    configuration.resetPolicy = .restart
    var options = RunOptions()
    options.timeLimit = 300_000_000
    let machine = VirtualMachine(configuration, technique: HardwareTechnique())
    #expect(try await machine.run(options).outcome == .stopped(.timeout))
  }
}
