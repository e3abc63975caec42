// An archive or an image as a guest's root: unpacked once into the user's cache, under its digest.
//
//     CACHE/trivisor/roots/SHA256/root       the tree
//     CACHE/trivisor/roots/SHA256/omissions  a link that leads nowhere: how many devices were left out

import Glibc
import SystemPackage
import TrivisorCLinux

/// A tree that was unpacked.
public struct RootImage: Sendable {
  /// The tree. Owners and modes are its files' `StoredAttributes`.
  public let path: FilePath
  /// How its maker wants it run.
  public let configuration: ImageConfiguration
  /// Device files that were left out.
  public let omissions: Int

  /// Whether a path is one, and no folder that is a root itself.
  public static func isImage(_ path: FilePath) -> Bool {
    var status = stat()
    guard path.withPlatformString({ stat($0, &status) }) == 0 else { return false }
    return status.st_mode & S_IFMT == S_IFREG || ImageLayout.isLayout(path)
  }

  /// Unpacks it, unless it has been by now.
  /// - Parameters:
  ///   - cache: made if it is not there.
  ///   - say: hears a sentence when there is something to wait for.
  /// - Throws: `ImageArchiveFailure`.
  public init(
    _ path: FilePath, cache: FilePath, say: (String) -> Void
  ) throws(ImageArchiveFailure) {
    let cache = RootCache(cache)
    if ImageLayout.isLayout(path) {
      self = try Self.unpack(try ImageLayout(path), path, cache, say)
      return
    }
    let digest = try Self.digest(of: path)
    let (tree, omissions) = try cache.tree(digest) { (root) throws(ImageArchiveFailure) in
      say("\(path) is unpacked into \(cache.path)")
      let builder = TreeBuilder(root, name: path.string)
      var tar = TarReader(
        try ByteReader(try ImageLayout.descriptor(path), name: path.string, hashes: false), name: path.string)
      try builder.add(&tar)
      return builder.omissions
    }
    // An archive of an image layout (skopeo: oci-archive).
    if ImageLayout.isLayout(tree) {
      self = try Self.unpack(try ImageLayout(tree), path, cache, say)
      return
    }
    (self.path, self.omissions, configuration) = (tree, omissions, ImageConfiguration())
  }

  private init(_ path: FilePath, _ configuration: ImageConfiguration, _ omissions: Int) {
    (self.path, self.configuration, self.omissions) = (path, configuration, omissions)
  }

  private static func unpack(
    _ layout: ImageLayout, _ path: FilePath, _ cache: RootCache, _ say: (String) -> Void
  ) throws(ImageArchiveFailure) -> RootImage {
    let digest = String(layout.digest.dropFirst("sha256:".count))
    let (tree, omissions) = try cache.tree(digest) { (root) throws(ImageArchiveFailure) in
      say("\(path) is unpacked into \(cache.path)")
      let builder = TreeBuilder(root, name: path.string)
      for layer in layout.layers {
        let bytes = try layout.open(layer)
        var tar = TarReader(bytes, name: "\(path), layer \(layer)")
        try builder.add(&tar)
        guard "sha256:" + (try bytes.finishDigest()) == layer else {
          throw ImageArchiveFailure("\(path) is damaged: layer \(layer) is not what its digest says")
        }
      }
      return builder.omissions
    }
    return RootImage(tree, layout.configuration, omissions)
  }

  private static func digest(of path: FilePath) throws(ImageArchiveFailure) -> String {
    let descriptor = try ImageLayout.descriptor(path)
    defer { close(descriptor) }
    var hash = SHA256()
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
    defer { buffer.deallocate() }
    while true {
      let count = read(descriptor, buffer.baseAddress, buffer.count)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else {
        throw ImageArchiveFailure("\(path) can't be read: \(Errno(rawValue: errno))", isHosts: true)
      }
      if count == 0 { return hash.finish() }
      hash.update(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
    }
  }
}
