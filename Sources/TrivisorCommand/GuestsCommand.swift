import ArgumentParser
import TrivisorEmbeddedGuests

/// `trivisor guests`.
struct GuestsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "guests",
    abstract: "List the guests that are part of this program.",
    discussion: """
      Each can be named as guest:NAME wherever an image is expected:

        trivisor run guest:hello
        trivisor run guest:crash --append triple-fault
      """)

  func run() {
    let guests = EmbeddedGuest.all + EmbeddedGuest.paravirtualOnly
    let width = guests.map(\.name.count).max() ?? 0
    for guest in guests {
      let name = "guest:" + guest.name + String(repeating: " ", count: width - guest.name.count)
      let arguments = guest.arguments.isEmpty ? "" : "  (--append \(guest.arguments))"
      Diagnostics.tell("\(name)  \(guest.summary)\(arguments)")
    }
  }
}
