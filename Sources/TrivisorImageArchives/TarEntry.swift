/// What an archive says of one file.
package struct TarEntry: Equatable {
  enum Kind: Equatable {
    case file, directory, symbolicLink, hardLink, pipe
    /// A character or block device.
    case device
  }

  var kind = Kind.file
  /// As it stands there.
  var path: [UInt8] = []
  /// Where a link leads.
  var target: [UInt8] = []
  /// Permissions, with setuid, setgid and the sticky bit.
  var mode: UInt32 = 0
  var user: UInt32 = 0
  var group: UInt32 = 0
  /// Bytes of the contents.
  var size: UInt64 = 0
  /// Seconds since 1970.
  var time: Int64 = 0
}
