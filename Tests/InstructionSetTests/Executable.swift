import Foundation

/// The executable sections of an ELF file (System V gABI, chapter 4).
struct Executable {
  let path: String
  let sections: [Data]

  init?(path: String) {
    guard let file = try? Data(contentsOf: URL(fileURLWithPath: path), options: .alwaysMapped), file.count > 64,
      file.prefix(5).elementsEqual([0x7f, 0x45, 0x4c, 0x46, 2])
    else { return nil }
    func number(_ offset: Int, _ size: Int) -> Int {
      guard offset >= 0, offset + size <= file.count else { return 0 }
      return (0..<size).reduce(0) { $0 | Int(file[offset + $1]) << (8 * $1) }
    }
    let table = number(40, 8)
    let entrySize = number(58, 2)
    var sections: [Data] = []
    for index in 0..<number(60, 2) {
      let header = table + index * entrySize
      let isProgramBits = number(header + 4, 4) == 1
      let isExecutable = number(header + 8, 8) & 4 != 0
      let offset = number(header + 24, 8)
      let size = number(header + 32, 8)
      if isProgramBits, isExecutable, offset + size <= file.count {
        sections.append(file.subdata(in: offset..<offset + size))
      }
    }
    self.path = path
    self.sections = sections
  }

  /// Programs of this machine: a few by name, and every library that this process has loaded.
  static func ofThisMachine() -> [Executable] {
    var paths: Set<String> = []
    for path in [
      "/usr/bin/python3", "/usr/bin/busybox", "/bin/busybox", "/usr/bin/bash", "/usr/bin/git", "/usr/bin/gcc",
    ] {
      paths.insert(URL(fileURLWithPath: path).resolvingSymlinksInPath().path)
    }
    if let maps = try? String(contentsOfFile: "/proc/self/maps", encoding: .utf8) {
      for line in maps.split(separator: "\n") where line.contains("r-xp") {
        if let start = line.firstIndex(of: "/") { paths.insert(String(line[start...])) }
      }
    }
    return paths.sorted().compactMap { Executable(path: $0) }.filter { !$0.sections.isEmpty }
  }
}
