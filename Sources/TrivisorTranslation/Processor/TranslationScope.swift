/// Which translations a guest has made void.
enum TranslationScope: Equatable {
  /// A page's, in the current address space and global ones; all of a large page.
  case page(UInt64)
  /// A page's in the address space with a number (PCID), but for global ones.
  case pageOf(UInt64, context: UInt64)
  /// All of the address space with a number, but for global ones.
  case context(UInt64)
  /// All of all address spaces, but for global ones.
  case allButGlobal
  case all
}
