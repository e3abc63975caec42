// What is done before the command begins, as the order's steps say: text each, a word, "=" and what belongs to it.
//
//     module=FILE            a module of the kernel's, from the archive
//     root=overlay:SIZE      the root is the host's folder, and what is written goes to memory: SIZE as tmpfs takes it
//     root=share             the root is the host's folder, and what is written goes there
//     share=ro:TAG:PATH      a folder of the host's at a place, or rw
//     host=NAME              what the machine calls itself
//     network=…, names=…     see network.swift
//     folder=PATH, user=…    see place.swift
//
// What can't be done is told to the host, which ends the run with that sentence.

import CLinuxGuest

struct Setup {
  private(set) var hasLiveRoot = false
  /// Whether what is written to the root goes to the host's folder.
  private var rootIsShared = false
  /// The tmpfs that takes what is written to the root.
  private var upper = -1

  /// Modules and the root.
  mutating func takeFirst(_ steps: UnsafeMutablePointer<UnsafePointer<CChar>?>, _ channel: inout Channel) {
    var index = 0
    while let step = steps[index] {
      index += 1
      if let file = value(step, "module=") {
        insert(file, &channel)
      } else if let kind = value(step, "root=") {
        hasLiveRoot = true
        enterRoot(kind, &channel)
      }
    }
  }

  /// Everything else: the usual file systems are there by now.
  mutating func takeRest(_ steps: UnsafeMutablePointer<UnsafePointer<CChar>?>, _ channel: inout Channel) {
    let network = NetworkSetup(rootIsShared: rootIsShared)
    var index = 0
    while let step = steps[index] {
      index += 1
      if let share = value(step, "share=") {
        mountShare(share, &channel)
      } else if let name = value(step, "host=") {
        Linux.call(.sethostname, Linux.address(name), length(name))
      } else if let interface = value(step, "network=") {
        network.configure(interface, &channel)
      } else if let text = value(step, "names=") {
        network.resolveNames(text)
      }
    }
    // Open files: 1024, and a million for who asks (RLIMIT_NOFILE).
    var limits = (1024, 1 << 20)
    withUnsafeMutablePointer(to: &limits) { _ = Linux.call(.setrlimit, 7, Linux.address($0)) }
  }

  // MARK: Modules

  private func insert(_ file: UnsafePointer<CChar>, _ channel: inout Channel) {
    var path = Path("/.trivisor/modules/")
    path.append(file)
    let descriptor = Linux.call(.open, path.address, Linux.Open.readOnly | Linux.Open.closeOnExec)
    guard descriptor >= 0 else { refuse("a module is missing in the archive: ", file, &channel) }
    let result = Linux.call(.finit_module, descriptor, Linux.address(""), 0)
    Linux.call(.close, descriptor)
    Linux.call(.unlink, path.address)
    // One that is there already, or whose device is not, does no harm.
    guard result == 0 || result == Linux.Failure.exists || result == Linux.Failure.noDevice else {
      refuse("the kernel refuses its module, which may be another kernel's: ", file, &channel)
    }
  }

  // MARK: The root

  private mutating func enterRoot(_ kind: UnsafePointer<CChar>, _ channel: inout Channel) {
    for folder: StaticString in ["/.trivisor/lower", "/.trivisor/upper", "/.trivisor/root"] {
      Linux.call(.mkdir, Linux.address(folder), 0o755)
    }
    guard let size = value(kind, "overlay:") else {
      rootIsShared = true
      mountRoot("/.trivisor/root", flags: 0, &channel)
      return moveRoot(&channel)
    }
    mountRoot("/.trivisor/lower", flags: Linux.Mount.readOnly, &channel)
    var options = Path("mode=755,size=")
    options.append(size)
    let made = Linux.call(
      .mount, Linux.address("tmpfs"), Linux.address("/.trivisor/upper"), Linux.address("tmpfs"), 0, options.address)
    guard made == 0 else {
      refuse("no tmpfs can be made for what is written to the root, of the size ", size, &channel)
    }
    upper = Linux.open("/.trivisor/upper", Linux.Open.directory | Linux.Open.closeOnExec)
    for folder: StaticString in ["/.trivisor/upper/data", "/.trivisor/upper/work"] {
      Linux.call(.mkdir, Linux.address(folder), 0o755)
    }
    // Kernels differ in what they take beyond the folders: less of it does as well.
    let variants: [3 of StaticString] = [
      "lowerdir=/.trivisor/lower,upperdir=/.trivisor/upper/data,workdir=/.trivisor/upper/work,redirect_dir=on,xino=on",
      "lowerdir=/.trivisor/lower,upperdir=/.trivisor/upper/data,workdir=/.trivisor/upper/work,redirect_dir=on",
      "lowerdir=/.trivisor/lower,upperdir=/.trivisor/upper/data,workdir=/.trivisor/upper/work",
    ]
    var result = 0
    for index in 0..<3 {
      result = Linux.call(
        .mount, Linux.address("overlay"), Linux.address("/.trivisor/root"), Linux.address("overlay"), 0,
        Linux.address(variants[index]))
      if result == 0 { return moveRoot(&channel) }
    }
    guard result != Linux.Failure.noDevice else {
      refuse(
        """
        the kernel has no overlay file systems (CONFIG_OVERLAY_FS, module overlay): name the folder of its \
        modules with --modules, or take --root DIR,copy
        """, nil, &channel)
    }
    refuse("the kernel makes no overlay over the folder of --root: take --root DIR,copy", nil, &channel)
  }

  private func mountRoot(_ place: StaticString, flags: Int, _ channel: inout Channel) {
    let result = Linux.call(
      .mount, Linux.address("trivisor-root"), Linux.address(place), Linux.address("virtiofs"), flags)
    if result != 0 { refuseShare(result, &channel) }
  }

  private func refuseShare(_ result: Int, _ channel: inout Channel) -> Never {
    if result == Linux.Failure.noDevice {
      refuse(
        """
        the kernel has no virtio-fs (CONFIG_VIRTIO_FS, module virtiofs): name the folder of its modules with \
        --modules, or take --root DIR,copy, and no --share
        """, nil, &channel)
    }
    refuse(
      """
      the kernel finds no virtio-fs device (CONFIG_VIRTIO_MMIO, module virtio_mmio): name the folder of its \
      modules with --modules, or take --root DIR,copy, and no --share
      """, nil, &channel)
  }

  /// The first root can't be left, only hidden: the new one is moved over it.
  private func moveRoot(_ channel: inout Channel) {
    Linux.call(.chdir, Linux.address("/.trivisor/root"))
    let moved = Linux.call(
      .mount, Linux.address("."), Linux.address("/"), 0, Linux.Mount.move)
    guard moved == 0, Linux.call(.chroot, Linux.address(".")) == 0 else {
      refuse("the folder of --root can't be made the root", nil, &channel)
    }
    Linux.call(.chdir, Linux.address("/"))
  }

  /// Whether what was written to the root found no room any more.
  var isFull: Bool {
    guard upper >= 0 else { return false }
    let status = scratchBuffer()
    // struct statfs: free blocks at 24, free inodes at 48, eight bytes each.
    guard Linux.call(.fstatfs, upper, Linux.address(status)) == 0 else { return false }
    func isZero(_ offset: Int) -> Bool { (offset..<(offset + 8)).allSatisfy { status[$0] == 0 } }
    return isZero(24) || isZero(48)
  }

  // MARK: Shares

  private func mountShare(_ text: UnsafePointer<CChar>, _ channel: inout Channel) {
    let flags = text[1] == 0x6f ? Linux.Mount.readOnly : 0  // "ro"
    // TAG:PATH, of which a tag has no colon.
    var tag = Path("")
    var position = 3
    while text[position] != 0, text[position] != 0x3a {
      tag.append(UInt8(bitPattern: text[position]))
      position += 1
    }
    guard text[position] != 0 else { return }
    let place = text + position + 1
    makeFolders(place)
    let result = Linux.call(
      .mount, tag.address, Linux.address(place), Linux.address("virtiofs"),
      flags | Linux.Mount.noSetUserID | Linux.Mount.noDevices)
    if result == 0 { return }
    guard result == Linux.Failure.noEntry || result == notDirectory else { refuseShare(result, &channel) }
    refuse("a shared folder has no place in the guest, no folder can be made there: ", place, &channel)
  }

  /// All folders of a path, where they are not.
  private func makeFolders(_ path: UnsafePointer<CChar>) {
    var part = Path("")
    var position = 0
    while path[position] != 0 {
      if position > 0, path[position] == 0x2f { Linux.call(.mkdir, part.address, 0o755) }
      part.append(UInt8(bitPattern: path[position]))
      position += 1
    }
    Linux.call(.mkdir, part.address, 0o755)
  }
}

/// What follows a word.
func value(_ text: UnsafePointer<CChar>, _ word: StaticString) -> UnsafePointer<CChar>? {
  var position = 0
  while position < word.utf8CodeUnitCount {
    guard UInt8(bitPattern: text[position]) == word.utf8Start[position] else { return nil }
    position += 1
  }
  return text + position
}

private func length(_ text: UnsafePointer<CChar>) -> Int {
  var count = 0
  while text[count] != 0 { count += 1 }
  return count
}

/// Tells the host why there will be no command.
func refuse(_ text: StaticString, _ detail: UnsafePointer<CChar>?, _ channel: inout Channel) -> Never {
  var sentence = Path(text)
  if let detail { sentence.append(detail) }
  channel.sendRefusal(of: 0, sentence.bytes, sentence.count)
  while !channel.isFlushed {
    channel.flush()
    var descriptor = PollDescriptor(descriptor: Int32(channel.descriptor), events: Linux.Poll.output, found: 0)
    guard !channel.isFlushed else { break }
    withUnsafeMutablePointer(to: &descriptor) { _ = Linux.call(.poll, Linux.address($0), 1, -1) }
  }
  // The host ends the machine.
  halt()
}

/// Text that is put together, with its closing zero. There is room for two at a time.
struct Path {
  private(set) var count = 0
  let bytes = textBuffer()

  init(_ text: StaticString) {
    bytes[0] = 0
    append(text)
  }

  var address: Int { Linux.address(bytes) }

  mutating func append(_ byte: UInt8) {
    guard count + 1 < Int(TEXT_CAPACITY) else { return }
    bytes[count] = byte
    bytes[count + 1] = 0
    count += 1
  }

  mutating func append(_ text: StaticString) {
    for index in 0..<text.utf8CodeUnitCount { append(text.utf8Start[index]) }
  }

  mutating func append(_ text: UnsafePointer<CChar>) {
    var index = 0
    while text[index] != 0 {
      append(UInt8(bitPattern: text[index]))
      index += 1
    }
  }
}
