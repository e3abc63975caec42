import Testing

@testable import TrivisorTranslation

@Suite struct GrowingListTests {
  @Test("what counts no more goes before it is more than what does, and each look is paid for by as many additions")
  func forgets() {
    var list = GrowingList<Int>()
    var looks = 0
    for number in 0..<100_000 {
      list.append(number) {
        looks += 1
        return $0 > number - 10
      }
      #expect(list.elements.count <= 32)
    }
    #expect(looks <= 200_000 && (99_991..<100_000).allSatisfy(list.elements.contains))
  }

  @Test("an element is there once after a look, however often it came")
  func unique() {
    var list = GrowingList<Int>()
    for number in 0..<1000 { list.append(number * 7 % 3) { _ in true } }
    #expect(list.elements.count <= 32 && Set(list.elements) == [0, 1, 2])
    list.removeAll { $0 == 1 }
    #expect(Set(list.elements) == [0, 2])
    list.removeAll()
    #expect(list.elements.isEmpty)
  }

  @Test("all that counts stays")
  func keeps() {
    var list = GrowingList<Int>()
    for number in 0..<5000 { list.append(number) { _ in true } }
    #expect(list.elements == Array(0..<5000))
  }
}
