import SystemPackage
import TrivisorDevices
import TrivisorPlatform
import TrivisorVMM

/// `--disk`: a file, and words behind commas. A comma that no such word follows belongs to the file's name.
struct DiskArgument {
  let path: FilePath
  let isReadOnly: Bool
  let isSnapshot: Bool
  let queueCount: Int?
  let domainName: DomainDiskName?
  private static let vocabulary = TrailingWords.Vocabulary(["ro", "snapshot", "queues=", "as="])

  private let words: TrailingWords

  init(_ text: String) throws(Refusal) {
    do throws(TrailingWords.Failure) {
      words = try TrailingWords(text, Self.vocabulary)
    } catch {
      throw Refusal(status: .usage, message: "--disk: \(error)")
    }
    isReadOnly = words.has("ro")
    isSnapshot = words.has("snapshot")
    queueCount = try words.value("queues=").map { value throws(Refusal) in
      guard let count = Int(value), (1...VirtioBlock.queueLimit).contains(count) else {
        throw Refusal(
          status: .usage, message: "--disk: 'queues=\(value)' can't be had: give 1 to \(VirtioBlock.queueLimit) queues")
      }
      return count
    }
    domainName = try words.value("as=").map { value throws(Refusal) in
      guard let name = DomainDiskName(value) else {
        throw Refusal(
          status: .usage,
          message: "--disk: 'as=\(value)' can't be had: a disk is \(DomainDiskName.names)")
      }
      return name
    }
    path = FilePath(words.rest)
    guard !words.rest.isEmpty else {
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
    try words.refuseUnknown(at: path, option: "--disk")
    do throws(DeviceFailure) {
      return StorageDeviceConfiguration(
        path: path, isReadOnly: isReadOnly, changes: isSnapshot ? try DiskChanges() : nil, queueCount: queueCount,
        domainName: domainName)
    } catch {
      throw Refusal(status: .failed, message: "--disk: \(error)")
    }
  }
}
