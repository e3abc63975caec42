// A disk as Xen's front ends know it (Xen's public header io/blkif.h): a node in the store on either side, by which both agree on a
// ring and a port, and requests in that ring for sectors from and to pages that the domain grants.
//
//     front: device/vbd/NUMBER          back: /local/domain/0/backend/vbd/DOMAIN/NUMBER
//     1 initialising                    2 waits
//     3 ring-ref, event-channel    ──▶  4 connected: sectors, sector-size, info
//     5 closing, 6 closed          ──▶  the same, and nothing is held any more

import TrivisorBoot
import TrivisorVMM

/// The hypervisor's end of a domain's disk. Used with the domain's lock held: requests are carried out when they are made.
struct BlockBackEnd {
  /// XenbusState….
  enum State: Int, Codable, Sendable {
    case initialising = 1
    case waiting, initialised, connected, closing, closed
  }

  /// What both sides have agreed on.
  struct Ring: Codable, Sendable, Equatable {
    var reference: UInt32
    var frame: UInt64
    var port: UInt32
    var isWide: Bool
    /// The next request.
    var consumer: UInt32
  }

  struct Saved: Codable, Sendable, Equatable {
    var state: State
    var ring: Ring?
    /// The device number, by which the front end knows it; a state without it is of a time when it followed from the place.
    var number: Int?
  }

  let storage: any BlockStorage
  let index: Int
  var state = State.waiting
  var ring: Ring?

  init(_ storage: any BlockStorage, index: Int) {
    self.storage = storage
    self.index = index
  }

  /// By its position, unless somebody has named it.
  private var diskName: DomainDiskName { storage.domainName ?? DomainDiskName(position: index) }
  var number: Int { diskName.number }
  var name: String { diskName.description }

  func frontPath(_ home: String) -> String { "\(home)/device/vbd/\(number)" }
  func backPath(_ domain: Int) -> String { "/local/domain/0/backend/vbd/\(domain)/\(number)" }

  static let sectorSize = 512
  /// VDISK_READONLY.
  private static let readOnly = 4

  /// What the store says of it from the beginning.
  func publish(in store: inout XenStore, domain: Int) {
    let (front, back) = (frontPath(store.home), backPath(domain))
    for (name, value) in [
      ("backend", back), ("backend-id", "0"), ("state", "\(State.initialising.rawValue)"),
      ("virtual-device", "\(number)"), ("device-type", "disk"),
    ] {
      store.set("\(front)/\(name)", value)
    }
    for (name, value) in [
      ("frontend", front), ("frontend-id", "\(domain)"), ("online", "1"), ("removable", "0"), ("bootable", "1"),
      ("dev", self.name), ("type", "phy"), ("mode", storage.isReadOnly ? "r" : "w"), ("device-type", "disk"),
      ("state", "\(state.rawValue)"), ("feature-flush-cache", "1"), ("feature-barrier", "1"),
      ("feature-discard", storage.isReadOnly ? "0" : "1"), ("discard-granularity", "\(Self.sectorSize)"),
      ("sectors", "\(storage.sectorCount)"), ("sector-size", "\(Self.sectorSize)"),
      ("physical-sector-size", "\(Self.sectorSize)"), ("info", "\(storage.isReadOnly ? Self.readOnly : 0)"),
    ] {
      store.set("\(back)/\(name)", value)
    }
  }
}
