import TrivisorInspection

/// What `trivisor inspect` prints.
enum InspectionText {
  static func of(_ inspection: Inspection, image: String, format: String, places: Int) -> String {
    var lines = ["\(image): \(format)"]
    let regions = inspection.regions.map { "\($0.name) \(size($0.size))" }.joined(separator: ", ")
    lines.append("code: \(size(inspection.codeSize)) (\(regions))")
    lines.append(
      "\(inspection.instructionCount) instructions; \(inspection.undefinedCount) places where none is that a guest may use"
    )
    if let sites = inspection.paravirtSites {
      lines.append("\(sites) sites that the kernel's paravirt-ops patch when it starts")
    }
    for character in InstructionCharacter.allCases {
      let findings = inspection.findings.filter { $0.character == character }
      guard !findings.isEmpty else { continue }
      lines.append("")
      lines.append("\(character.title) (\(findings.reduce(0) { $0 + $1.addresses.count }))")
      let rows =
        [["", "", "hardware", "rewriting", "paravirtual"]]
        + findings.map { finding in
          [
            finding.name, "\(finding.addresses.count)", finding.treatment.hardware, finding.treatment.rewriting,
            finding.treatment.paravirtual,
          ]
        }
      let table = TextTable(rows, rightAligned: [1]).lines
      lines.append("  " + table[0])
      for (finding, line) in zip(findings, table.dropFirst()) {
        lines.append("  " + line)
        let found = inspection.places(of: finding)
        guard places > 0, inspection.regions.count > 1 || !inspection.symbols.isEmpty else { continue }
        let named = found.prefix(places).map { $0.count > 1 ? "\($0.name) ×\($0.count)" : $0.name }
        let more = found.count > places ? ", and \(found.count - places) more" : ""
        lines.append("      in \(named.joined(separator: ", "))\(more)")
      }
    }
    return lines.joined(separator: "\n")
  }

  private static func size(_ bytes: Int) -> String { bytes < 10_000 ? "\(bytes) B" : "\((bytes + 512) >> 10) KiB" }
}
