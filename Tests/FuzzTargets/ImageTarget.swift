import TrivisorBoot
import TrivisorEmbeddedGuests
import TrivisorVMM

/// The loaders. The first byte is the kind that is asked for, the rest the image.
final class ImageTarget: FuzzTarget {
  static let name = "image"
  static let sizeLimit = 64 << 10

  static var seeds: [[UInt8]] {
    var images: [[UInt8]] = []
    for guest in EmbeddedGuest.all + EmbeddedGuest.paravirtualOnly {
      images.append(Array(guest.bytes))
      if let bytes = guest.paravirtualBytes { images.append(Array(bytes)) }
    }
    return images.filter { $0.count < sizeLimit }.map { [0] + $0 }
  }

  private let memory: GuestMemory

  init() throws { memory = try GuestMemory(size: 16 << 20, isShareable: false) }

  func run(_ bytes: UnsafeRawBufferPointer) {
    var input = FuzzInput(bytes)
    let kinds = [nil] + ImageKind.allCases
    let kind = kinds[Int(input.byte()) % kinds.count]
    guard let image = try? BootImage(name: "fuzzed", bytes: input.remainder()) else { return }
    var request = BootRequest(image: image, kind: kind)
    request.commandLine = "a b"
    _ = try? request.isDomainOfUpperHalf()
    guard (try? request.load(into: memory)) != nil else { return }
    try? memory.clear(GuestPhysicalAddress(0), count: memory.size)
  }
}
