import TrivisorBoot
import TrivisorEmbeddedGuests
import SystemPackage

/// What the user named as a guest.
struct GuestImage {
  /// Ready to be loaded.
  let image: BootImage
  /// As JSON and messages call it.
  let name: String

  /// - Parameters:
  ///   - argument: a path, or `guest:NAME` for one of our own.
  ///   - isParavirtual: whether one of our own is to be the build for Xen's PV interface.
  /// - Throws: `BootFailure` when the file can't be had; `Refusal` when there is no such guest.
  init(_ argument: String, isParavirtual: Bool) throws {
    name = argument
    guard argument.hasPrefix("guest:") else {
      image = try Self.file(argument)
      return
    }
    let guestName = String(argument.dropFirst("guest:".count))
    guard let guest = EmbeddedGuest.named(guestName) else {
      let known = EmbeddedGuest.all.map(\.name).joined(separator: ", ")
      throw Refusal(status: .notLoaded, message: "\(argument): there is no such guest; there are \(known)")
    }
    guard isParavirtual else {
      image = try BootImage(name: argument, bytes: guest.bytes)
      return
    }
    guard let bytes = guest.paravirtualBytes else {
      let known = EmbeddedGuest.all.filter { $0.paravirtualBytes != nil }.map(\.name).joined(separator: ", ")
      throw Refusal(
        status: .notLoaded,
        message: "\(argument): there is no paravirtual build of this guest; there is one of \(known)")
    }
    image = try BootImage(name: argument, bytes: bytes)
  }

  private static func file(_ path: String) throws -> BootImage {
    guard !path.isEmpty else {
      throw Refusal(
        status: .notLoaded, message: "the guest's image has an empty name: give a file, or one of our own, guest:NAME")
    }
    do throws(BootFailure) {
      return try BootImage(path: FilePath(path))
    } catch {
      guard error.reason == .cannotOpen(.noSuchFileOrDirectory) else { throw error }
      throw Refusal(
        status: .notLoaded, message: "\(path): \(error.reason), or name a guest of Trivisor's own as guest:NAME")
    }
  }
}
