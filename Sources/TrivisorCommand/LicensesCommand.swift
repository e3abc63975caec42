import ArgumentParser
import TrivisorCLicenses

/// `trivisor licenses`.
struct LicensesCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "licenses",
    abstract: "Print the licences of everything that this program carries.")

  func run() throws {
    let text = UnsafeRawBufferPointer(start: trivisor_licenses(), count: trivisor_licenses_size())
    Diagnostics.write(String(decoding: text, as: UTF8.self))
  }
}
