import TrivisorCLinux
import Glibc

/// Which of the host's file systems may be looked into: those that hold files, and none that stands for the kernel, for
/// processes or for devices.
///
/// The numbers are those of Linux' include/uapi/linux/magic.h and of the file systems' own headers; what is not known here is not
/// looked into.
enum FileSystemKinds {
  private static let temporary = 0x0102_1994

  private static let ordinary: Set<Int> = [
    0xef53,  // ext2, ext3, ext4
    0x5846_5342,  // xfs
    0x9123_683e,  // btrfs
    0xf2f5_2010,  // f2fs
    0x2fc1_2fc1,  // zfs
    0xca45_1a4e,  // bcachefs
    0x3153_464a,  // jfs
    0x5265_4973,  // reiserfs
    0x3434,  // nilfs2
    temporary,
    0x8584_58f6,  // ramfs
    0x794c_7630,  // overlayfs
    0x6573_5546,  // fuse, virtiofs
    0x7371_7368,  // squashfs
    0xe0f5_e1e2,  // erofs
    0x28cd_3d45,  // cramfs
    0x9660,  // iso9660
    0x1501_3346,  // udf
    0x4d44,  // vfat
    0x2011_bab0,  // exfat
    0x5346_544e,  // ntfs
    0x7366_746e,  // ntfs3
    0x482b,  // hfsplus
    0x6969,  // nfs
    0xff53_4d42,  // cifs
    0xfe53_4d42,  // smb2
    0x0102_1997,  // 9p
    0x00c3_6400,  // ceph
    0x5346_414f,  // afs
    0x0bd0_0bd0,  // lustre
    0x4750_4653,  // gpfs
    0x7461_636f,  // ocfs2
    0x0116_1970,  // gfs2
    0xf15f,  // ecryptfs
  ]

  /// Whether a descriptor's file system may be looked into.
  static func isOrdinary(_ descriptor: Int32, device: UInt64) -> Bool {
    let kind = clinux_file_system_type(descriptor)
    guard ordinary.contains(kind) else { return false }
    // devtmpfs says that it is a tmpfs. There is one of it, however often it is mounted.
    return kind != temporary || !deviceFileSystems().contains(device)
  }

  /// The device numbers of devtmpfs (proc(5), /proc/self/mountinfo).
  private static func deviceFileSystems() -> Set<UInt64> {
    guard let table = fopen("/proc/self/mountinfo", "re") else { return [] }
    defer { fclose(table) }
    var line: UnsafeMutablePointer<CChar>?
    var capacity = 0
    defer { free(line) }
    var found: Set<UInt64> = []
    while getline(&line, &capacity, table) > 0, let line {
      // "22 1 0:5 / /dev rw - devtmpfs udev rw,…": the third word is the number, the type follows the hyphen.
      let words = String(cString: line).split(separator: " ")
      guard let hyphen = words.firstIndex(of: "-"), hyphen + 1 < words.count, words[hyphen + 1] == "devtmpfs" else {
        continue
      }
      let numbers = words[2].split(separator: ":").compactMap { UInt32($0) }
      if numbers.count == 2 { found.insert(UInt64(gnu_dev_makedev(numbers[0], numbers[1]))) }
    }
    return found
  }
}
