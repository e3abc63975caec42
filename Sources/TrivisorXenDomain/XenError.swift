/// What a refused hypercall returns, negated (Xen's public header errno.h).
enum XenError: Int64, Error {
  case notPermitted = 1
  case noEntry = 2
  case noSuchProcess = 3
  case noDeviceOrAddress = 6
  case tooBig = 7
  case again = 11
  case noMemory = 12
  case accessDenied = 13
  case badAddress = 14
  case busy = 16
  case exists = 17
  case noDevice = 19
  case invalid = 22
  case noSpace = 28
  case outOfRange = 34
  case notImplemented = 38
  case notSupported = 95

  /// As RAX shows it.
  var result: UInt64 { UInt64(bitPattern: -rawValue) }
}
