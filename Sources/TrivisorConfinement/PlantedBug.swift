#if DEBUG
import Glibc
import TrivisorCConfinement

/// A guest that has taken its monitor over, as the tests have it: tries to get out, and tells what came of it. In debug builds only.
public enum PlantedBug {
  /// A line for each attempt: its name, and `done` or the error.
  /// - Parameters:
  ///   - path: a file outside the shares, to be read.
  ///   - folder: a folder outside the shares, to make a file in.
  public static func attempts(reading path: String, writing folder: String) -> [String] {
    func told(_ name: String, _ result: Int32) -> String {
      "\(name): " + (result == 0 ? "done" : String(cString: strerror(-result)))
    }
    func opened(_ path: String, _ flags: Int32) -> Int32 {
      let descriptor = open(path, flags, 0o600)
      let error = errno
      if descriptor >= 0 { close(descriptor) }
      return descriptor >= 0 ? 0 : -error
    }
    var needless: [String] = []
    var name: UnsafePointer<CChar>?
    while true {
      let result = confinement_try_needless(Int32(needless.count), &name)
      guard result <= 0, let name else { break }
      needless.append(told("call " + String(cString: name), result))
    }
    return [
      told("read", opened(path, O_RDONLY)),
      told("write", opened(folder + "/planted", O_WRONLY | O_CREAT)),
      told("execute", confinement_try_execute()),
      told("connect", confinement_try_connect()),
      told("trace", confinement_try_trace()),
      told("kill", confinement_try_kill()),
      told("type", confinement_try_type()),
      told("fork", confinement_try_fork()),
      told("code", confinement_try_new_code()),
      told("limit", confinement_try_limit()),
      told("legacy", confinement_try_legacy()),
    ] + needless
  }
}
#endif
