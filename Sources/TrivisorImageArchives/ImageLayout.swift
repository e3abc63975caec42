import Glibc
import SystemPackage
import TrivisorCLinux

/// An image in a folder (OCI Image Format Specification, Image Layout): `oci-layout`, `index.json` and `blobs/`.
struct ImageLayout {
  private static let textLimit = 8 << 20
  private static let layerLimit = 1024
  /// Docker's names are other than the specification's, the texts are the same.
  private static let indexes = [
    "application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json",
  ]

  private let folder: FilePath
  /// Of the image's manifest, by which it is known.
  let digest: String
  let configuration: ImageConfiguration
  let layers: [String]

  /// Whether a folder is one.
  static func isLayout(_ folder: FilePath) -> Bool {
    folder.appending("oci-layout").withPlatformString { access($0, R_OK) } == 0
  }

  /// - Throws: `ImageArchiveFailure` for a layout without one image for this kind of processor.
  init(_ folder: FilePath) throws(ImageArchiveFailure) {
    self.folder = folder
    let index = try Self.text(folder.appending("index.json"), in: folder)
    var manifest = try Self.manifest(of: index, in: folder)
    var value = try Self.json(manifest, in: folder)
    // An index of an index: one for each kind of processor.
    for _ in 0..<4 {
      guard value["manifests"] != nil else { break }
      manifest = try Self.manifest(of: value, in: folder)
      value = try Self.json(manifest, in: folder)
    }
    guard let config = value["config"]?["digest"]?.string, let layers = value["layers"]?.array,
      layers.count <= Self.layerLimit
    else { throw ImageArchiveFailure("\(folder) has no image manifest with layers") }
    digest = manifest
    let digests = layers.compactMap { $0["digest"]?.string }
    guard digests.count == layers.count else { throw ImageArchiveFailure("\(folder): a layer has no digest") }
    self.layers = digests
    let about = try Self.json(config, in: folder)
    if let architecture = about["architecture"]?.string, !["amd64", "386", ""].contains(architecture) {
      throw ImageArchiveFailure("\(folder) is an image for \(architecture) processors: one for amd64 is needed")
    }
    configuration = ImageConfiguration(about["config"])
  }

  private static func manifest(of index: JSONValue, in folder: FilePath) throws(ImageArchiveFailure) -> String {
    let all = index["manifests"]?.array ?? []
    // What has no platform may be anything; attestations say "unknown".
    let fitting = all.filter { entry in
      guard let architecture = entry["platform"]?["architecture"]?.string else { return true }
      return architecture == "amd64" && (entry["platform"]?["os"]?.string ?? "linux") == "linux"
    }
    guard let first = fitting.first, let digest = first["digest"]?.string else {
      throw ImageArchiveFailure("\(folder) has no image for amd64")
    }
    guard fitting.count == 1 else {
      throw ImageArchiveFailure(
        "\(folder) has \(fitting.count) images: copy the one that is meant to a layout of its own (skopeo copy)")
    }
    return digest
  }

  private static func json(_ digest: String, in folder: FilePath) throws(ImageArchiveFailure) -> JSONValue {
    try text(try blob(digest, in: folder), in: folder, digest: digest)
  }

  /// A blob's path.
  private static func blob(_ digest: String, in folder: FilePath) throws(ImageArchiveFailure) -> FilePath {
    let words = digest.split(separator: ":", omittingEmptySubsequences: false)
    guard words.count == 2, words[0] == "sha256", words[1].utf8.count == 64,
      words[1].utf8.allSatisfy({ 0x30...0x39 ~= $0 || 0x61...0x66 ~= $0 })
    else { throw ImageArchiveFailure("\(folder): '\(digest)' is no digest by SHA-256") }
    return folder.appending("blobs/sha256/\(words[1])")
  }

  /// Opens a layer.
  func open(_ digest: String) throws(ImageArchiveFailure) -> ByteReader {
    let path = try Self.blob(digest, in: folder)
    return try ByteReader(try Self.descriptor(path), name: "\(path)", hashes: true)
  }

  static func descriptor(_ path: FilePath) throws(ImageArchiveFailure) -> Int32 {
    let descriptor = path.withPlatformString { Glibc.open($0, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK) }
    var status = stat()
    guard descriptor >= 0, fstat(descriptor, &status) == 0 else {
      throw ImageArchiveFailure("\(path) can't be opened: \(Errno(rawValue: errno))")
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      throw ImageArchiveFailure("\(path) is no file")
    }
    return descriptor
  }

  private static func text(
    _ path: FilePath, in folder: FilePath, digest: String? = nil
  ) throws(ImageArchiveFailure) -> JSONValue {
    let descriptor = try descriptor(path)
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    while bytes.count <= textLimit {
      let count = Glibc.read(descriptor, &chunk, chunk.count)
      guard count > 0 else { break }
      bytes += chunk[..<count]
    }
    guard bytes.count <= textLimit else { throw ImageArchiveFailure("\(path) has more than \(textLimit >> 20) MiB") }
    if let digest {
      var hash = SHA256()
      bytes.withUnsafeBytes { hash.update($0) }
      guard digest == "sha256:" + hash.finish() else {
        throw ImageArchiveFailure("\(path) is damaged: it is not what its digest says")
      }
    }
    guard let value = JSONValue(bytes) else { throw ImageArchiveFailure("\(path) is no JSON") }
    return value
  }
}
