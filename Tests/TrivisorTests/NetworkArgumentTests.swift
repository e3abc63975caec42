import Testing
import TrivisorNetworking
import TrivisorVMM

@testable import TrivisorCommand
@testable import TrivisorLinuxCommands

@Suite("--network")
struct NetworkArgumentTests {
  @Test("the user network, with ports of the host's")
  func user() throws {
    let plain = try NetworkArgument(parsing: "user")
    #expect(plain.kind == .user(UserNetwork()))
    let full = try NetworkArgument(
      parsing: "user,tcp=8080:80,udp=53,tcp=::1/9:10,tcp=0.0.0.0/7,loopback=off,mac=52:54:00:00:00:01")
    var expected = UserNetwork()
    expected.reachesLoopback = false
    expected.forwardings = [
      .init(.tcp, port: 8080, guestPort: 80), .init(.udp, port: 53, guestPort: 53),
      .init(.tcp, address: InternetAddress("::1"), port: 9, guestPort: 10),
      .init(.tcp, address: InternetAddress("0.0.0.0"), port: 7, guestPort: 7),
    ]
    #expect(full.kind == .user(expected))
    #expect(full.hardwareAddress?.description == "52:54:00:00:00:01")
  }

  @Test("what else an interface is plugged into, with its addresses")
  func others() throws {
    let tap = try NetworkArgument(
      parsing: "tap=tap0,address=192.0.2.2/24,address=2001:db8::2/64,gateway=2001:db8::1,dns=192.0.2.9")
    #expect(tap.kind == .tap("tap0"))
    #expect(tap.addresses.entries.map(\.prefix) == [24, 64])
    #expect(tap.addresses.entries.map(\.gateway?.description) == [nil, "2001:db8::1"])
    #expect(tap.addresses.resolverFile == "nameserver 192.0.2.9\n")
    #expect(try NetworkArgument(parsing: "socket=/tmp/a=b").kind == .socket("/tmp/a=b"))
  }

  @Test("several pairs of queues, of a tap interface only")
  func queues() throws {
    let tap = try NetworkArgument(parsing: "tap=tap0,queues=4")
    #expect(tap.queueCount == 4)
    #expect(tap.finding == nil)
    for argument in ["tap=a", "tap=a,queues=1", "user,queues=1", "tap=a,queues=8"] {
      #expect(try NetworkArgument(parsing: argument).finding == nil)
    }
    for argument in ["user,queues=2", "socket=/tmp/a,queues=2"] {
      let refused = try NetworkArgument(parsing: argument)
      let finding = try #require(refused.finding)
      #expect(finding.contains("only a tap interface has several pairs of queues"))
    }
    for argument in ["tap=a,queues=0", "tap=a,queues=9", "user,queues=-1"] {
      #expect(try NetworkArgument(parsing: argument).finding?.contains("give 1 to 8") == true)
    }
    #expect(throws: InvalidArgument.self) { try NetworkArgument(parsing: "tap=a,queues=many") }
  }

  @Test(
    "what makes no sense is refused",
    arguments: [
      "", "none", "user=1", "tap", "tap=", "socket=", "user,", "user,tcp", "user,tcp=", "user,tcp=0", "user,tcp=80:0",
      "user,tcp=1:2:3", "user,tcp=65536", "user,tcp=x/80", "user,tcp=/80", "user,loopback=no",
      "user,address=10.0.0.1/8",
      "tap=a,tcp=80", "tap=a,address=10.0.0.1", "tap=a,address=10.0.0.1/33", "tap=a,address=x/8",
      "tap=a,gateway=10.0.0.1", "tap=a,address=::1/64,gateway=10.0.0.1", "tap=a,mac=1", "user,mac=01:00:00:00:00:01",
      "tap=a,dns=x",
    ])
  func refused(argument: String) {
    #expect(throws: InvalidArgument.self) { try NetworkArgument(parsing: argument) }
  }

  @Test("what the guest's first process is told")
  func steps() throws {
    let argument = try NetworkArgument(
      parsing: "tap=a,address=192.0.2.2/24,gateway=192.0.2.1,address=2001:db8::2/64,mac=52:54:00:00:0a:01")
    let network = WorkplaceNetwork(
      hardwareAddress: try #require(argument.hardwareAddress), maximumTransferUnit: 1500, addresses: argument.addresses)
    #expect(
      network.step(metric: 100)
        == "network=525400000a01,100,1500,c0000202/24/c0000201,20010db8000000000000000000000002/64/")
    #expect(WorkplaceNetwork.namesStep([network]) == nil)
  }
}
