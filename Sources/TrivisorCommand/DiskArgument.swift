import SystemPackage
import TrivisorDevices
import TrivisorPlatform
import TrivisorVMM

/// `--disk`: a file, and words behind commas. A comma that no such word follows belongs to the file's name.
struct DiskArgument {
  private(set) var path: FilePath
  private(set) var isReadOnly = false
  private(set) var isSnapshot = false
  private(set) var queueCount: Int?
  private(set) var domainName: DomainDiskName?

  init(_ text: String) throws(Refusal) {
    var rest = Substring(text)
    while let comma = rest.lastIndex(of: ",") {
      let word = rest[rest.index(after: comma)...]
      if word == "ro" {
        isReadOnly = true
      } else if word == "snapshot" {
        isSnapshot = true
      } else if word.hasPrefix("queues=") {
        guard let count = Int(word.dropFirst(7)), (1...VirtioBlock.queueLimit).contains(count) else {
          throw Refusal(
            status: .usage, message: "--disk: '\(word)' can't be had: give 1 to \(VirtioBlock.queueLimit) queues")
        }
        queueCount = count
      } else if word.hasPrefix("as=") {
        guard let name = DomainDiskName(String(word.dropFirst(3))) else {
          throw Refusal(
            status: .usage, message: "--disk: '\(word)' can't be had: a disk is xvda to xvdp, hda to hdd or sda to sdp")
        }
        domainName = name
      } else {
        break
      }
      rest = rest[..<comma]
    }
    path = FilePath(String(rest))
    guard !rest.isEmpty else {
      throw Refusal(status: .usage, message: "--disk: '\(text)' names no file: give one in front of the comma")
    }
    guard !isReadOnly || !isSnapshot else {
      throw Refusal(
        status: .usage,
        message:
          "--disk: \(path) can't be read-only and a snapshot, to which the guest may write: leave ,ro or ,snapshot out")
    }
  }

  /// With the file for a snapshot's changes made.
  func configuration() throws(Refusal) -> StorageDeviceConfiguration {
    do throws(DeviceFailure) {
      return StorageDeviceConfiguration(
        path: path, isReadOnly: isReadOnly, changes: isSnapshot ? try DiskChanges() : nil, queueCount: queueCount,
        domainName: domainName)
    } catch {
      throw Refusal(status: .failed, message: "--disk: \(error)")
    }
  }
}
