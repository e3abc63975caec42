import ArgumentParser
import TrivisorBoot
import TrivisorInspection
import TrivisorInstructionSet
import TrivisorVMM

/// `trivisor inspect`.
struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Find the instructions of an image that virtualization has to deal with.",
    usage: "trivisor inspect <image> [<options>]",
    discussion: """
      Sweeps over all code of a kernel or program, and says how many instructions would trap in user mode, how many would \
      silently do something else, where they are, and what each technique makes of them. Packed Linux kernels are \
      unpacked.

        trivisor inspect vmlinuz
        trivisor inspect guest:privileged --places 5
        trivisor inspect boot-sector.img --kind flat16 --json findings.json
      """)

  @Argument(help: "A kernel or a program: a file, or guest:NAME.", completion: .file())
  var image: String

  @Option(help: "What an image that is no ELF file is: flat16, flat32 or flat64. Detected unless said.")
  var kind: ImageKind?

  @Option(help: "Where a flat image is loaded.")
  var loadAddress: Address?

  @Option(help: "How many places are named for each instruction.")
  var places = 3

  @Flag(help: "Look at the paravirtual build of a guest of Trivisor's own.")
  var paravirtual = false

  @Flag(help: "List every address in the JSON.")
  var addresses = false

  @Option(
    help: "Write what was found to this file as JSON; - is standard output.", completion: .file(extensions: ["json"]))
  var json: String?

  func validate() throws {
    if places < 0 { throw ValidationError("--places: there is no such number of places") }
  }

  func run() throws {
    let guest = try GuestImage(image, isParavirtual: paravirtual)
    // What is neither code nor a kernel that holds some would be taken for instructions all the same.
    let isELF = try guest.image.begins(with: [0x7f] + Array("ELF".utf8))
    if kind == nil, !isELF { _ = try ImageKind.detect(guest.image) }
    let contents = try ImageContents(guest.image)
    let (mode, address) = flatPlace(contents)
    let inspection = Inspection(contents.bytes, flatMode: mode, flatAddress: address)
    let packing = contents.packing.map { ", unpacked (\($0))" } ?? ""
    let format = inspection.format + packing
    if !ResultFile.isStandardOutput(json) {
      Diagnostics.print(InspectionText.of(inspection, image: image, format: format, places: places))
    }
    guard let json else { return }
    let report = InspectionReport(inspection, image: image, format: format, withAddresses: addresses)
    try ResultFile.write(try report.text(), to: json, option: "--json")
  }

  private func flatPlace(_ contents: ImageContents) -> (CPUMode, UInt64) {
    let isBootSector = contents.bytes.count >= 512 && contents.bytes[510...511] == [0x55, 0xaa]
    switch kind ?? (isBootSector ? .flat16 : .flat32) {
    case .flat16: return (.bits16, loadAddress?.value.rawValue ?? 0x7c00)
    case .flat64: return (.bits64, loadAddress?.value.rawValue ?? 0x10_0000)
    default: return (.bits32, loadAddress?.value.rawValue ?? 0x10_0000)
    }
  }
}
