import Testing
import TrivisorVMM

@testable import TrivisorNetworking

@Suite("User network")
struct UserNetworkTests {
  @Test("what the host's resolv.conf says")
  func resolvers() {
    let text = """
      # by hand
      nameserver 127.0.0.53
      nameserver	192.0.2.1
      nameserver fe80::1%eth0
      nameserver 2001:db8::1
      nameserver 192.0.2.9
      search example.org  a-b.example ex$ample
      options edns0
      """
    let resolvers = HostResolvers(text)
    #expect(resolvers.servers.map(\.description) == ["127.0.0.53", "192.0.2.1", "2001:db8::1"])
    #expect(resolvers.searchDomains == ["example.org", "a-b.example"])
  }

  @Test("which addresses a guest gets")
  func addresses() {
    let resolvers = HostResolvers("nameserver 127.0.0.53\nnameserver 2001:db8::1\nsearch example.org")
    let both = Passt.addresses(.init(hasVersion4: true, hasVersion6: true), 7, resolvers)
    #expect(both.entries.map(\.address.description) == ["10.0.7.15", "fd54:7276:6973::15"])
    #expect(both.entries.map(\.gateway?.description) == ["10.0.7.2", "fd54:7276:6973::2"])
    #expect(both.resolverFile == "nameserver 10.0.7.3\nnameserver 2001:db8::1\nsearch example.org\n")
    let one = Passt.addresses(.init(hasVersion4: true), 2, resolvers)
    #expect(one.entries.count == 1)
    #expect(one.resolverFile == "nameserver 10.0.2.3\nsearch example.org\n")
    #expect(Passt.addresses(.init(hasVersion4: true), 2, HostResolvers("")).resolverFile == nil)
  }

  @Test("what passt says when it gives up is told in one sentence")
  func refusals() {
    func sentence(_ report: String, silent: Bool = false) -> String {
      Passt.refusal("/usr/bin/passt", report, silent: silent, UserNetwork()).description
    }
    #expect(
      sentence(
        """
        Failed to send 62 bytes to syslog
        Couldn't create user namespace: Operation not permitted

        """
      ).contains("passt may not make namespaces"))
    #expect(
      sentence("No external routable interface for IPv4\nExternal interface not usable\n").contains("default route"))
    #expect(sentence("Something\nelse\n").hasSuffix("ended: Something; else"))
    #expect(sentence("").hasSuffix("ended: without a word"))
    #expect(sentence("", silent: true).contains("does not answer"))
  }

  @Test("hardware addresses are six bytes of one interface")
  func hardwareAddresses() {
    #expect(MACAddress("52:54:00:Ab:00:ff")?.description == "52:54:00:ab:00:ff")
    for text in [
      "", "52:54:00:12:34", "52:54:00:12:34:5", "53:54:00:12:34:56", "00:00:00:00:00:00", "52:54:00:12:34:56:78",
      "5-:54:00:12:34:56", "+1:54:00:12:34:56",
    ] {
      #expect(MACAddress(text) == nil)
    }
  }
}
