import TrivisorCLinux

extension Array where Element == UInt8 {
  /// Where a sequence of bytes is first, by memmem(3): a kernel's tens of megabytes are searched in milliseconds, where the standard
  /// library's `firstRange` compares collections at each byte.
  package func firstIndex(of pattern: [UInt8]) -> Int? {
    withUnsafeBytes { bytes in
      pattern.withUnsafeBytes { wanted in
        guard let start = bytes.baseAddress,
          let place = memmem(start, UInt(bytes.count), wanted.baseAddress, UInt(wanted.count))
        else { return nil }
        return UnsafeRawPointer(place) - start
      }
    }
  }
}
