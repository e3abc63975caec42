// A network interface as Xen's front ends know it (Xen's public header io/netif.h): a node in the store on either side, by which both
// agree on two rings and a port. In one ring the domain sends pieces of frames that lie in pages which it grants, in the other it
// grants empty pages, which are filled.
//
//     front: device/vif/NUMBER                            back: /local/domain/0/backend/vif/DOMAIN/NUMBER
//     1 initialising                                      2 waits
//     3 tx-ring-ref, rx-ring-ref, event-channel      ──▶  4 connected
//     5 closing, 6 closed                            ──▶  the same, and nothing is held any more

import TrivisorBoot
import TrivisorCSharedWords
import TrivisorVMM

/// The hypervisor's end of a domain's network interface. Used with the domain's lock held.
struct NetworkBackEnd {
  /// One of the rings, granted by the domain.
  struct Ring: Codable, Sendable, Equatable {
    var reference: UInt32
    var frame: UInt64
    /// The next request.
    var consumer: UInt32 = 0
  }

  /// What both sides have agreed on.
  struct Connection: Codable, Sendable, Equatable {
    var transmit: Ring
    var receive: Ring
    var port: UInt32
    /// Whether frames may have several pieces.
    var takesPieces: Bool
    /// Whether the domain completes checksums of what it receives.
    var takesBlankChecksums: Bool
  }

  struct Saved: Codable, Sendable, Equatable {
    var state: BlockBackEnd.State
    var connection: Connection?
    var address: MACAddress
  }

  /// The longest frame that a domain may send.
  static let frameMaximum = 65_535
  /// Pieces that it may have; domains are told of 18.
  static let pieceMaximum = 24
  /// The most interfaces that there can be.
  static let limit = 8

  let link: any NetworkLink
  let index: Int
  var address: MACAddress
  var state = BlockBackEnd.State.waiting
  var connection: Connection?
  /// Room for one frame that the domain sends.
  let room: FrameRoom
  let waiter: NetworkWaiter

  /// - Parameter doorbell: of the processor that looks after interfaces.
  init(_ interface: NetworkInterface, index: Int, doorbell: any DomainDoorbell) {
    link = interface.link
    address = interface.address
    self.index = index
    room = FrameRoom()
    waiter = NetworkWaiter(interface.link, doorbell)
  }

  func frontPath(_ home: String) -> String { "\(home)/device/vif/\(index)" }
  func backPath(_ domain: Int) -> String { "/local/domain/0/backend/vif/\(domain)/\(index)" }

  /// What the store says of it from the beginning.
  func publish(in store: inout XenStore, domain: Int) {
    let (front, back) = (frontPath(store.home), backPath(domain))
    for (name, value) in [
      ("backend", back), ("backend-id", "0"), ("state", "\(BlockBackEnd.State.initialising.rawValue)"),
      ("handle", "\(index)"), ("mac", "\(address)"), ("mtu", "\(link.maximumTransferUnit)"),
    ] {
      store.set("\(front)/\(name)", value)
    }
    for (name, value) in [
      ("frontend", front), ("frontend-id", "\(domain)"), ("online", "1"), ("handle", "\(index)"), ("mac", "\(address)"),
      ("state", "\(state.rawValue)"), ("feature-sg", "1"), ("feature-rx-copy", "1"), ("feature-rx-flip", "0"),
      ("feature-ipv6-csum-offload", "1"), ("feature-split-event-channels", "0"),
    ] {
      store.set("\(back)/\(name)", value)
    }
  }
}

/// Memory for one frame.
final class FrameRoom: @unchecked Sendable {
  // Unchecked: used with the domain's lock held.
  let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: NetworkBackEnd.frameMaximum, alignment: 8)

  deinit { bytes.deallocate() }
}
