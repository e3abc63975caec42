import TrivisorEmbeddedGuests
import TrivisorInspection
import TrivisorInstructionSet

/// `trivisor inspect`: ELF files, their symbols, and everything that is said of them.
final class InspectionTarget: FuzzTarget {
  static let name = "inspection"
  static let sizeLimit = 16 << 10

  static var seeds: [[UInt8]] { EmbeddedGuest.all.map { Array($0.bytes) }.filter { $0.count <= sizeLimit } }

  init() {}

  func run(_ bytes: UnsafeRawBufferPointer) {
    let inspection = Inspection(Array(bytes), flatMode: .bits32, flatAddress: .max - 100)
    for finding in inspection.findings { _ = inspection.places(of: finding) }
    let report = InspectionReport(inspection, image: "fuzzed", format: inspection.format, withAddresses: true)
    _ = try? report.text()
  }
}
