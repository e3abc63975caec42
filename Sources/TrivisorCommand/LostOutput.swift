import SystemPackage

/// Something that was asked for and could not be written: the guest's output, a command's, a result, a report.
struct LostOutput: Sendable, Equatable {
  /// Where it was to be.
  enum Place: Sendable, Equatable {
    case standardOutput, standardError
    /// A file that an option names.
    case file(String, option: String)
  }

  let place: Place
  let error: Errno

  /// What a run that ends for it failed to do.
  var call: String {
    switch place {
    case .standardOutput: "write to standard output"
    case .standardError: "write to standard error"
    case .file(let file, option: let option): "write to \(file) (\(option))"
    }
  }

  /// What is wrong, and where that helps, what to do about it.
  var sentence: String {
    let name: String
    switch place {
    case .file(let file, option: let option): return "\(option): \(file) could not be written: \(error)"
    case .standardOutput: name = "standard output"
    case .standardError: name = "standard error"
    }
    guard error == .badFileDescriptor else { return "\(name) can't be written: \(error)" }
    return "\(name) is closed, or open for reading only; redirect it to a file, or to /dev/null"
  }
}
