import Boot
import EmbeddedGuests
import SystemPackage

/// What the user named as a guest.
struct GuestImage {
  /// Ready to be loaded.
  let image: BootImage
  /// As JSON and messages call it.
  let name: String

  /// - Parameter argument: a path, or `guest:NAME` for one of our own.
  /// - Throws: `BootFailure` when the file can't be had; `Refusal` when there is no such guest.
  init(_ argument: String) throws {
    name = argument
    guard argument.hasPrefix("guest:") else {
      image = try BootImage(path: FilePath(argument))
      return
    }
    let guestName = String(argument.dropFirst("guest:".count))
    guard let guest = EmbeddedGuest.named(guestName) else {
      let known = EmbeddedGuest.all.map(\.name).joined(separator: ", ")
      throw Refusal(status: .notLoaded, message: "\(argument): there is no such guest; there are \(known)")
    }
    image = try BootImage(name: argument, bytes: guest.bytes)
  }
}
