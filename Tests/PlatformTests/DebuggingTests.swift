import Glibc
import Synchronization
import Testing
import TrivisorBoot
import TrivisorCDebuggedGuest
import TrivisorDevices
import TrivisorEmbeddedGuests
import TrivisorHardwareTechnique
import TrivisorParavirtTechnique
import TrivisorPlatform
import TrivisorRewritingTechnique
import TrivisorVMM

@testable import TrivisorDebugger

/// Under which a machine can be debugged here. A KVM that emulates the guest's kernel code runs its user code without the
/// means of a debugger; there the guest is debugged as far as it is a kernel.
private let techniques: [TechniqueName] =
  [.rewriting] + (access("/dev/kvm", R_OK | W_OK) == 0 ? [.hardware] : [])

@Suite("A debugger from outside", .serialized)
struct DebuggingTests {
  /// A machine on a thread of its own, and a debugger that it waits for.
  private final class Debugged {
    let client: DebuggerClient
    private let server: DebuggerServer
    private let result = Monitor<Outcome?>(nil)

    init(
      _ request: BootRequest, _ technique: any Technique, _ architecture: String = "x86-64",
      resetPolicy: ResetPolicy = .failure
    ) throws {
      let path = "/tmp/trivisor-debugging-\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
      server = try DebuggerServer(try DebuggerAddress("unix:\(path),wait,\(architecture)"))
      var configuration = PlatformConfiguration(boot: request)
      configuration.machine.memorySize = 64 << 20
      configuration.resetPolicy = resetPolicy
      configuration.serialPorts = [SerialPortConfiguration(output: MemorySink())]
      var options = RunOptions()
      options.timeLimit = 300_000_000_000
      options.debugger = server
      let (result, server, settled) = (result, server, options)
      let machine = VirtualMachine(configuration, technique: technique)
      let body: @Sendable () -> Void = {
        let outcome = try? machine.runOnThisThread(settled).outcome
        server.close()
        result.with { $0 = outcome ?? .halted }
      }
      try #require(DetachedThread.start(body))
      client = try DebuggerClient(path, architecture == "i386" ? .i386 : .x86_64)
    }

    var outcome: Outcome? { result.wait(milliseconds: 60_000) { $0 } }
  }

  private static func technique(_ name: TechniqueName) -> any Technique {
    name == .hardware ? HardwareTechnique() : RewritingTechnique()
  }

  /// An image that lasts as long as the tests, as images must that are in no file.
  private func makeImage(_ name: String, _ bytes: [UInt8]) throws -> BootImage {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    copy.copyBytes(from: bytes)
    return try BootImage(name: name, bytes: UnsafeRawBufferPointer(copy))
  }

  /// Where a place of the guest is.
  private func place(_ name: String) throws -> UInt64 {
    for position in 0..<debuggedPlaceCount() {
      let entry = debuggedPlaces() + position
      let text = withUnsafeBytes(of: entry.pointee.name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if text == name { return 0x10_0000 + entry.pointee.offset }
    }
    Issue.record("there is no place \(name)")
    return 0
  }

  private func debug(_ name: TechniqueName) throws -> Debugged {
    let bytes = UnsafeRawBufferPointer(start: debuggedGuestBytes(), count: debuggedGuestSize())
    let request = BootRequest(image: try BootImage(name: "debugged guest", bytes: bytes), kind: .flat64)
    return try Debugged(request, Self.technique(name))
  }

  /// Whether a debugger's breakpoints are met at all. QEMU's software processor has SVM, but no intercepts of INT3, and loses
  /// breakpoint registers at VMRUN.
  private func hasBreakpoints(_ name: TechniqueName) -> Bool { name != .hardware || isOnSoftwareProcessor() == 0 }

  /// Whether the processor's own means of debugging count for guest code: a KVM that emulates the guest's kernel heeds no
  /// breakpoints on data, no trap flag and no INT of it, and gives nobody a hold on its user code.
  private func hasProcessor(_ name: TechniqueName) -> Bool {
    hasBreakpoints(name) && (name != .hardware || HardwareTechnique().caution() == nil)
  }

  @Test("The guest alone finds nothing wrong", arguments: techniques)
  func alone(technique: TechniqueName) throws {
    guard technique != .hardware || HardwareTechnique().caution() == nil else { return }
    let guest = try debug(technique)
    #expect(try guest.client.ask("D") == "OK")
    #expect(guest.outcome == .exited(code: 0))
  }

  @Test("Breakpoints of both kinds are met, and do not show in memory", arguments: techniques)
  func breakpoints(technique: TechniqueName) throws {
    guard hasBreakpoints(technique) else { return }
    let guest = try debug(technique)
    let client = guest.client
    let (first, stores) = (try place("first"), try place("stores"))
    let before = try client.memory(first, 16)
    try client.insert(0, first)
    try client.insert(1, stores)
    #expect(try client.resume() == .init(signal: 5, reason: "swbreak:"))
    #expect(try client.register("rip") == first)
    #expect(try client.memory(first, 16) == before)
    // From where it stands it goes on, with the breakpoint still there.
    #expect(try client.resume() == .init(signal: 5, reason: "hwbreak:"))
    #expect(try client.register("rip") == stores)
    try client.remove(0, first)
    try client.remove(1, stores)
    client.send("k")
    #expect(guest.outcome == .stopped(.request))
  }

  @Test("A watchpoint stops behind the instruction that uses the bytes, and behind no other", arguments: techniques)
  func watchpoints(technique: TechniqueName) throws {
    guard hasProcessor(technique) else { return }
    let guest = try debug(technique)
    let client = guest.client
    let counter = try place("counter")
    let hit = "watch:\(String(counter, radix: 16))"
    try client.insert(2, counter, 4)
    #expect(try client.resume() == .init(signal: 5, reason: hit))
    #expect(try client.word(counter) & 0xffff_ffff == 1)
    #expect(try client.resume() == .init(signal: 5, reason: hit))
    #expect(try client.register("rip") == place("behind_second_store"))
    #expect(try client.word(counter) & 0xffff_ffff == 2)
    try client.remove(2, counter, 4)
    try client.insert(4, counter, 4)
    #expect(try client.resume().reason == "a" + hit)
    #expect(try client.register("rip") == place("behind_load"))
    // Two bytes of a longer store.
    try client.remove(4, counter, 4)
    let target = try place("target")
    try client.insert(2, target + 3, 1)
    #expect(try client.resume().reason == "watch:\(String(target + 3, radix: 16))")
    #expect(try client.memory(target, 5) == Array("eigh".utf8) + [0])
    try client.remove(2, target + 3, 1)
    #expect(try client.ask("D") == "OK")
    #expect(guest.outcome == .exited(code: 0))
  }

  @Test(
    "Steps lead through flags, repetition, faults and returns, and the guest sees none of them", arguments: techniques)
  func steps(technique: TechniqueName) throws {
    guard hasProcessor(technique) else { return }
    let guest = try debug(technique)
    let client = guest.client
    func run(to name: String) throws {
      try client.insert(0, place(name))
      _ = try client.resume()
      #expect(try client.register("rip") == place(name), "\(name)")
      try client.remove(0, place(name))
    }
    func expectStep(to name: String) throws {
      try client.step()
      #expect(try client.register("rip") == place(name), "\(name)")
      #expect(try client.register("eflags") & 0x100 == 0, "\(name)")
    }
    try run(to: "push_flags")
    try expectStep(to: "behind_push_flags")
    #expect(try client.word(client.register("rsp")) & 0x100 == 0)
    try run(to: "pop_flags")
    try expectStep(to: "behind_pop_flags")
    try run(to: "moves")
    for round in 1...8 {
      try client.step()
      #expect(try client.register("rcx") == UInt64(8 - round))
      #expect(try client.register("rip") == place(round < 8 ? "moves" : "behind_moves"))
    }
    // A step over what faults ends at the handler, whose frame has the guest's own flags.
    try run(to: "invalid")
    try expectStep(to: "invalid_handler")
    #expect(try client.word(client.register("rsp") + 16) & 0x100 == 0)
    try run(to: "behind_invalid")
    try run(to: "faulting_load")
    try expectStep(to: "page_fault_handler")
    #expect(try client.register("cr2") == 0x7f00_0000_0000)
    try run(to: "fault_return")
    try client.step()
    #expect(try client.register("rip") == place("faulting_load") + 2)
    try run(to: "own_breakpoint")
    try expectStep(to: "breakpoint_handler")
    #expect(try client.ask("D") == "OK")
    #expect(guest.outcome == .exited(code: 0))
  }

  @Test("Steps from the first instruction on lead through a kernel that faults at nothing", arguments: techniques)
  func kernelSteps(technique: TechniqueName) throws {
    let guest = try debug(technique)
    let client = guest.client
    var places: Set<UInt64> = []
    let end = try place("invalid")
    for _ in 0..<200 {
      let rip = try client.register("rip")
      places.insert(rip)
      if try rip == place("behind_push_flags") { #expect(try client.word(client.register("rsp")) & 0x100 == 0) }
      #expect(try client.register("eflags") & 0x100 == 0)
      if rip == end { break }
      try client.step()
    }
    #expect(try client.register("rip") == end)
    for name in ["first", "stores", "push_flags", "behind_push_flags", "pop_flags", "behind_pop_flags", "moves"] {
      #expect(places.contains(try place(name)), "\(name)")
    }
    #expect(try client.word(place("seen_flags")) & 0x100 == 0)
    #expect(try client.memory(place("target"), 8) == Array("eightone".utf8))
    client.send("k")
    #expect(guest.outcome == .stopped(.request))
  }

  @Test("The guest's own single steps go on while it is stepped from outside", arguments: techniques)
  func ownSteps(technique: TechniqueName) throws {
    guard hasProcessor(technique) else { return }
    let guest = try debug(technique)
    let client = guest.client
    try client.insert(0, place("own_stepped"))
    _ = try client.resume()
    #expect(try client.register("eflags") & 0x100 != 0)
    // Behind the instruction comes the guest's own #DB.
    try client.step()
    #expect(try client.register("rip") == place("debug_handler"))
    #expect(try client.word(client.register("rsp") + 16) & 0x100 != 0)
    #expect(try client.word(client.register("rsp")) == place("in_own_steps"))
    try client.step()
    try client.step()
    #expect(try client.register("rip") == place("in_own_steps"))
    #expect(try client.register("eflags") & 0x100 != 0)
    // A breakpoint amid them.
    try client.remove(0, place("own_stepped"))
    try client.insert(0, place("behind_own_steps"))
    #expect(try client.resume().reason == "swbreak:")
    #expect(try client.register("rip") == place("behind_own_steps"))
    #expect(try client.word(place("step_count")) & 0xffff_ffff == 6)
    #expect(try client.ask("D") == "OK")
    #expect(guest.outcome == .exited(code: 0))
  }

  @Test("Steps lead into user code by IRETQ, out of it by SYSCALL, and back by SYSRET", arguments: techniques)
  func userCode(technique: TechniqueName) throws {
    guard hasProcessor(technique) else { return }
    let guest = try debug(technique)
    let client = guest.client
    try client.insert(0, place("return_to_user"))
    _ = try client.resume()
    try client.step()
    #expect(try client.register("rip") == place("user"))
    #expect(try client.register("cs") & 3 == 3)
    try client.insert(0, place("user_call"))
    #expect(try client.resume().reason == "swbreak:")
    try client.step()
    #expect(try client.register("rip") == place("call_entry"))
    #expect(try client.register("r11") & 0x100 == 0)
    try client.insert(0, place("system_return"))
    _ = try client.resume()
    try client.step()
    #expect(try client.register("rip") == place("behind_user_call"))
    #expect(try client.ask("D") == "OK")
    #expect(guest.outcome == .exited(code: 0))
  }

  @Test("Every step of the guest's life ends somewhere, and it does what it does alone", arguments: techniques)
  func everyStep(technique: TechniqueName) throws {
    guard hasProcessor(technique) else { return }
    let guest = try debug(technique)
    let client = guest.client
    try client.insert(0, place("first"))
    _ = try client.resume()
    try client.remove(0, place("first"))
    let end = try place("the_end")
    for _ in 0..<400 {
      if try client.register("rip") == end { break }
      try client.step()
    }
    #expect(try client.register("rip") == end)
    #expect(try client.register("rax") & 0xff == 0)
    #expect(try client.ask("D") == "OK")
    #expect(guest.outcome == .exited(code: 0))
  }

  @Test("Registers and memory can be changed between two instructions", arguments: techniques)
  func changes(technique: TechniqueName) throws {
    guard hasBreakpoints(technique) else { return }
    let guest = try debug(technique)
    let client = guest.client
    let first = try place("first")
    try client.insert(0, first)
    _ = try client.resume()
    // Code that was translated or fetched already: mov $7, %eax; mov $0x5f0, %edx; out %al, %dx.
    #expect(try client.ask("M\(String(first, radix: 16)),b:b807000000baf0050000ee") == "OK")
    try client.setRegister("rip", first)
    client.send("vCont;c")
    #expect(try client.receive() == "W07")
    #expect(guest.outcome == .exited(code: 7))
  }

  @Test("Ctrl-C stops what runs for ever; kill ends it", arguments: techniques)
  func interrupt(technique: TechniqueName) throws {
    // jmp .
    let image = try makeImage("loop", [0xeb, 0xfe])
    let guest = try Debugged(BootRequest(image: image, kind: .flat64), Self.technique(technique))
    let client = guest.client
    client.send("vCont;c")
    usleep(50_000)
    client.send(bytes: [3])
    #expect(try client.stop() == .init(signal: 2))
    #expect(try client.register("rip") == 0x10_0000)
    // A breakpoint at the only instruction is met again after each round.
    if hasBreakpoints(technique) {
      try client.insert(0, 0x10_0000)
      for _ in 0..<3 { #expect(try client.resume().reason == "swbreak:") }
    }
    client.send("k")
    #expect(guest.outcome == .stopped(.request))
  }

  @Test("A guest that crashes can be looked at before it ends", arguments: techniques)
  func crash(technique: TechniqueName) throws {
    // cli; hlt
    let image = try makeImage("halt", [0xfa, 0xf4])
    let guest = try Debugged(BootRequest(image: image, kind: .flat64), Self.technique(technique))
    #expect(try guest.client.resume() == .init(signal: 6))
    #expect(try guest.client.register("rip") == 0x10_0002)
    guest.client.send("vCont;c")
    #expect(try guest.client.receive() == "X06")
    #expect(guest.outcome == .halted)
  }

  @Test("A machine that begins anew after a reset is held at its first instruction", arguments: techniques)
  func restart(technique: TechniqueName) throws {
    // mov $6, %al; mov $0xcf9, %dx; out %al, %dx; jmp .
    let image = try makeImage("reset", [0xb0, 0x06, 0xba, 0xf9, 0x0c, 0xee, 0xeb, 0xfe])
    let guest = try Debugged(
      BootRequest(image: image, kind: .flat16), Self.technique(technique), "i386", resetPolicy: .restart)
    for _ in 0..<2 {
      try stepToBootSector(guest.client)
      #expect(try guest.client.resume() == .init(signal: 6))
      #expect(try guest.client.register("eip") == 0x7c06)
      #expect(try guest.client.resume() == .init(signal: 5))
    }
    guest.client.send("k")
    #expect(guest.outcome == .stopped(.request))
  }

  /// A machine that begins in real mode is held at the first instruction of its firmware.
  private func stepToBootSector(_ client: DebuggerClient) throws {
    for _ in 0..<500 where try client.register("eip") != 0x7c00 { try client.step() }
    #expect(try client.register("eip") == 0x7c00)
  }

  @Test("Real mode: the program counter is linear, and steps and breakpoints work", arguments: techniques)
  func realMode(technique: TechniqueName) throws {
    // jmp 0x07b0:0x0105; inc %ax; inc %ax; int3 to nowhere is never met; jmp .
    let image = try makeImage("real mode", [0xea, 0x05, 0x01, 0xb0, 0x07, 0x40, 0x40, 0xeb, 0xfe])
    let guest = try Debugged(BootRequest(image: image, kind: .flat16), Self.technique(technique), "i386")
    let client = guest.client
    try stepToBootSector(client)
    if hasBreakpoints(technique) {
      try client.insert(0, 0x7c06)
      #expect(try client.resume().reason == "swbreak:")
      try client.remove(0, 0x7c06)
    } else {
      for _ in 0..<2 { try client.step() }
    }
    #expect(try client.register("eip") == 0x7c06)
    #expect(try client.register("cs") == 0x7b0)
    let ax = try client.register("eax")
    try client.step()
    #expect(try client.register("eip") == 0x7c07)
    #expect(try client.register("eax") == ax + 1)
    client.send("k")
    #expect(guest.outcome == .stopped(.request))
  }

  @Test("32-bit code", arguments: techniques)
  func protectedMode(technique: TechniqueName) throws {
    // mov $5, %eax; push %eax; pop %ebx; jmp .
    let image = try makeImage("32-bit", [0xb8, 5, 0, 0, 0, 0x50, 0x5b, 0xeb, 0xfe])
    let guest = try Debugged(BootRequest(image: image, kind: .flat32), Self.technique(technique), "i386")
    let client = guest.client
    if hasBreakpoints(technique) {
      try client.insert(0, 0x10_0006)
      #expect(try client.resume().reason == "swbreak:")
      try client.remove(0, 0x10_0006)
    } else {
      for _ in 0..<2 { try client.step() }
    }
    try client.step()
    #expect(try client.register("ebx") == 5)
    #expect(try client.register("eip") == 0x10_0007)
    client.send("k")
    #expect(guest.outcome == .stopped(.request))
  }

  @Test(
    "A paravirtual domain is stepped through hypercalls, and meets breakpoints and watchpoints where its steps have led",
    arguments: [false, true])
  func domain(isTranslated: Bool) throws {
    let technique = ParavirtTechnique(translatesAll: isTranslated)
    let guest = try #require(EmbeddedGuest.named("hello"))
    let image = try BootImage(name: guest.name, bytes: try #require(guest.paravirtualBytes))
    var places: [UInt64] = []
    do {
      let debugged = try Debugged(BootRequest(image: image), technique)
      for _ in 0..<300 {
        places.append(try debugged.client.register("rip"))
        #expect(try debugged.client.register("eflags") & 0x100 == 0)
        try debugged.client.step()
      }
      #expect(try debugged.client.ask("D") == "OK")
      #expect(debugged.outcome == .poweredOff || debugged.outcome == .exited(code: 0))
    }
    #expect(Set(places).count > 50)
    let debugged = try Debugged(BootRequest(image: image), technique)
    let client = debugged.client
    for place in [places[20], places[150]] where places.firstIndex(of: place) != 0 {
      let before = try client.memory(place, 8)
      try client.insert(0, place)
      #expect(try client.resume().reason == "swbreak:")
      #expect(try client.register("rip") == place)
      #expect(try client.memory(place, 8) == before)
      try client.remove(0, place)
    }
    // What is next below the stack is written by the next call or push, and then read by the return or pop.
    let slot = try client.register("rsp") &- 8
    let hit = "watch:\(String(slot, radix: 16))"
    try client.insert(2, slot, 8)
    #expect(try client.resume().reason == hit)
    #expect(try client.register("rsp") <= slot)
    try client.remove(2, slot, 8)
    try client.insert(3, slot, 8)
    #expect(try client.resume().reason == "r" + hit)
    try client.remove(3, slot, 8)
    try client.setRegister("rax", 0x1234)
    #expect(try client.register("rax") == 0x1234)
    client.send("k")
    #expect(debugged.outcome == .stopped(.request))
  }
}
