/// What a device must not do, and did.
package struct FuzzFinding: Error, CustomStringConvertible {
  /// A clause.
  package let description: String

  init(_ description: String) { self.description = description }

  /// Throws unless something holds.
  static func require(_ condition: Bool, _ otherwise: @autoclosure () -> String) throws(FuzzFinding) {
    if !condition { throw FuzzFinding(otherwise()) }
  }
}
