import TrivisorBoot
import TrivisorDevices
import TrivisorEmbeddedGuests
import TrivisorPlatform
import Testing
import TrivisorVMM

@testable import TrivisorParavirtTechnique

@Suite(.serialized)
struct HelloTests {
  private func run(
    _ guest: String, commandLine: String = "", memory: UInt64 = 32 << 20
  ) throws -> (outcome: Outcome, output: String) {
    let bytes = try #require(EmbeddedGuest.named(guest)?.paravirtualBytes)
    var request = BootRequest(image: try BootImage(name: guest, bytes: bytes))
    request.commandLine = commandLine
    var configuration = PlatformConfiguration(boot: request)
    configuration.machine.memorySize = memory
    let sink = MemorySink()
    configuration.serialPorts = [SerialPortConfiguration(output: sink)]
    var options = RunOptions()
    options.timeLimit = 300_000_000_000
    let result = try VirtualMachine(configuration, technique: ParavirtTechnique()).runOnThisThread(options)
    return (result.outcome, String(decoding: sink.bytes, as: UTF8.self))
  }

  @Test("hello speaks over the console ring, repeats its command line and ends with its code by xenstore")
  func hello() throws {
    let plain = try run("hello")
    #expect(plain.output == "Hello from 64-bit long mode.\r\n")
    #expect(plain.outcome == .exited(code: 0))
    let told = try run("hello", commandLine: "one two=2")
    #expect(told.output == "Hello from 64-bit long mode.\r\nCommand line: one two=2\r\n")
    #expect(told.outcome == .exited(code: 0))
  }

  @Test("little memory and much memory", arguments: [4, 5, 64, 4096] as [UInt64])
  func memorySizes(mebibytes: UInt64) throws {
    do {
      #expect(try run("hello", memory: mebibytes << 20).outcome == .exited(code: 0))
    } catch let failure as MachineFailure {
      #expect(mebibytes < 5, "\(failure)")
    }
  }

  @Test("an image for the other techniques is refused by name")
  func refused() throws {
    let native = try #require(EmbeddedGuest.named("hello"))
    let request = BootRequest(image: try BootImage(name: "hello", bytes: native.bytes))
    let machine = VirtualMachine(PlatformConfiguration(boot: request), technique: ParavirtTechnique())
    #expect(throws: MachineFailure.self) { try machine.runOnThisThread() }
  }
}

@Test("what is read from the host says of the technique what making sandboxes says")
func probing() {
  #expect(ParavirtTechnique().probe() == ParavirtTechnique().rehearse())
}
