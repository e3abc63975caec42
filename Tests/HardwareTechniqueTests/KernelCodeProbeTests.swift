import Testing

@testable import TrivisorHardwareTechnique

@Suite("The measurement that tells whether a KVM emulates kernel code")
struct KernelCodeProbeTests {
  @Test("a run that the host delayed changes nothing, if another one was not")
  func delayed() {
    var times = KernelCodeProbe.LoopTimes()
    times.record(short: 5_000_000, long: 1_100_000)
    times.record(short: 100_000, long: 9_000_000)
    #expect(times.price == 1000)
  }

  @Test("what all of the long loop took is more than any price")
  func upperBound() {
    var times = KernelCodeProbe.LoopTimes()
    times.record(short: 2000, long: 2200)
    #expect(times.mostPrice == 2)
    #expect(times.price == 0.2)
  }
}
