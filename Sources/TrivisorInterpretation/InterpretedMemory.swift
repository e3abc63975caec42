/// The memory of interpreted code: asked for a page at its first use of each kind in a run.
package protocol InterpretedMemory: AnyObject {
  /// The page at an address, if code may use it so now. Whoever answers does what a processor's page walk would do, accessed and dirty bits
  /// included.
  /// - Returns: nil where the processor is to find out what becomes of the access.
  func page(at address: UInt64, for use: PageUse) -> InterpretedPage?
}

/// What an instruction does with a page.
package enum PageUse: Sendable {
  case read, write, execute
}

/// A page of 4096 bytes.
package struct InterpretedPage {
  /// Its first byte here, which stays there until the run ends.
  package let host: UnsafeMutableRawPointer
  /// Whether it is one of those for whose sake the code is interpreted.
  package let isSought: Bool

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  package init(host: UnsafeMutableRawPointer, isSought: Bool = false) {
    self.host = host
    self.isSought = isSought
  }
}
