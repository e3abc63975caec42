import SystemPackage

/// What a user can do about a call that the host refuses, by the error.
public enum HostRemedy {
  /// Whether the error tells that the host, or what it allows this process, is used up, whatever was asked for.
  public static func isShortage(_ error: Errno) -> Bool {
    [.tooManyOpenFiles, .tooManyOpenFilesInSystem, .noMemory].contains(error)
  }

  /// For calls that make memory, files of memory and descriptors; empty where nothing is known.
  public static func of(_ error: Errno) -> Sentence {
    switch error {
    case .tooManyOpenFiles: "raise the limit of open files (ulimit -n)"
    case .tooManyOpenFilesInSystem: "raise the host's limit of open files (fs.file-max), or end other programs"
    case .fileTooLarge: "raise the limit of file sizes (ulimit -f), which holds for memory files, too"
    case .noMemory:
      "lower \(Setting.memory), raise the process's limit of address space (ulimit -v), or end other programs"
    case .resourceTemporarilyUnavailable: "raise the limits of processes and locked memory (ulimit -u, -l)"
    case .permissionDenied, .notPermitted:
      "let this process make memory files and map them: a seccomp filter, vm.memfd_noexec or a security module is in the way"
    case .noSpace: "make room where the host keeps memory files, or lower \(Setting.memory)"
    case .noFunction: "use a host whose kernel, or whose seccomp filter, has the call"
    default: ""
    }
  }
}
