import ArgumentParser
import TrivisorNamedGuests

/// `trivisor balloon`.
struct BalloonCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "balloon",
    abstract: "Take memory from a guest that runs, or give it back, and tell how its memory is.",
    discussion: """
      The guest is one that 'trivisor run … --name NAME --balloon SIZE' runs. It follows as it can, and takes memory out of \
      the balloon when it has none left.

        trivisor run vmlinuz --root / --memory 4G --balloon 0 --name build -- make check &
        trivisor balloon build                   how its memory is
        trivisor balloon build 3G                1 GiB is left to it
        trivisor balloon build 0                 it has all again
      """)

  @Argument(help: "The guest's name.")
  var name: String

  @Argument(help: "How much is to be in the balloon: 512 or 512M is in MiB, 2G in GiB.")
  var size: MemorySize?

  func run() throws {
    let answer: String
    do throws(NamedGuestFailure) {
      answer = try GuestClient(name, in: try RuntimeFolder()).ask(BalloonQuestion.text(size?.bytes))
    } catch {
      throw Refusal(status: error.kind == .usage ? .usage : .failed, message: "balloon: \(error)")
    }
    Diagnostics.print(answer)
  }
}
