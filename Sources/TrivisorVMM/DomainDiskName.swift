/// What a Xen domain calls a disk, by which its front end finds it: xvda to xvdp, and for kernels that look for other ones, hda to hdd
/// and sda to sdp (Xen: docs/man/xen-vbd-interface.7).
public struct DomainDiskName: Sendable, Equatable, CustomStringConvertible {
  /// As it is written.
  public let description: String
  /// The device number, as in Linux: the major number from bit 8 on.
  public let number: Int

  private enum Major {
    static let firstIDE = 3, secondIDE = 22, scsi = 8, xen = 202
  }

  /// As many as there are of one kind, and so as many disks as a domain can have.
  public static let limit = 16
  /// All that there are, for a sentence.
  public static let names = "xvda to xvdp, hda to hdd or sda to sdp"

  /// Of a disk that has no name of its own.
  /// - Parameter position: among all disks of the domain, below `limit`; beyond it, the name is no front end's.
  public init(position: Int) {
    description = "xvd" + String(UnicodeScalar(UInt8(ascii: "a") &+ UInt8(truncatingIfNeeded: position)))
    number = Major.xen << 8 | position << 4
  }

  /// - Returns: nil if there is no such name.
  public init?(_ text: String) {
    guard let letter = text.utf8.last, (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(letter) else { return nil }
    let index = Int(letter - UInt8(ascii: "a"))
    description = text
    switch text.dropLast() {
    case "xvd" where index < Self.limit: number = Major.xen << 8 | index << 4
    case "sd" where index < Self.limit: number = Major.scsi << 8 | index << 4
    // Two disks a channel, with 64 minors each.
    case "hd" where index < 4: number = (index < 2 ? Major.firstIDE : Major.secondIDE) << 8 | (index & 1) << 6
    default: return nil
    }
  }
}
