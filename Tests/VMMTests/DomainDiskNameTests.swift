import Testing
import TrivisorVMM

@Suite("What a domain calls its disks")
struct DomainDiskNameTests {
  @Test(
    "numbers are those of Linux' device files",
    arguments: [
      ("xvda", 51712), ("xvdb", 51728), ("xvdp", 51952), ("hda", 768), ("hdb", 832), ("hdc", 5632), ("hdd", 5696),
      ("sda", 2048), ("sdp", 2288),
    ])
  func numbers(text: String, number: Int) throws {
    let name = try #require(DomainDiskName(text))
    #expect(name.number == number && "\(name)" == text)
  }

  @Test("other words are no names", arguments: ["", "a", "hd", "hde", "xvdq", "sdq", "xvd1", "vda", "xvdaa", "xvdA"])
  func others(text: String) { #expect(DomainDiskName(text) == nil) }

  @Test("by position")
  func positions() { #expect(DomainDiskName(position: 2) == DomainDiskName("xvdc")) }
}
