import Testing
import TrivisorVMM

@Test("an absent device reads as ones, as many as the access is wide")
func allOnes() {
  #expect(AccessWidth.byte.allOnes == 0xff)
  #expect(AccessWidth.quadword.allOnes == .max)
}
