import SystemPackage
import TrivisorCommandChannel

/// Makes an order that a client gives for a running guest like the first command's: the same user, folder and variables, unless it
/// says otherwise.
package struct FurtherCommands: Sendable {
  /// Where a command begins (guests/linux/place.swift).
  package static let folderStep = "folder="
  /// By a client: who runs it, by name or number. It knows nothing of the guest's users.
  package static let userStep = "as="

  /// Where names of users are looked up.
  let root: FilePath?
  let user: GuestUser
  let environment: CommandEnvironment
  /// The first command's, if it has one.
  let folder: String?

  /// - Throws: `CommandOrder.Refusal` for a user that there is not.
  package func complete(_ given: CommandOrder) throws(CommandOrder.Refusal) -> CommandOrder {
    var user = user
    var isRoot = self.user == GuestUser()
    if let name = given.steps.last(where: { $0.hasPrefix(Self.userStep) })?.dropFirst(Self.userStep.count) {
      do {
        user = try GuestUser(String(name), root: root)
        isRoot = false
      } catch {
        throw CommandOrder.Refusal(
          description: (error as? WorkplaceRefusal)?.description ?? "there is no user '\(name)'")
      }
    }
    // The first command's root has no entry looked up for it.
    if isRoot { user.shell = (try? GuestUser("0", root: root))?.shell }
    var order = given
    order.installsBusybox = false
    order.environment = environment.variables(of: user, further: given.environment)
    order.steps = [given.steps.last { $0.hasPrefix(Self.folderStep) } ?? folder].compactMap { $0 }
    if !isRoot { order.steps.append(user.step) }
    return order
  }
}
