import TrivisorCommandChannel
import TrivisorVMM

extension VirtualMachineConfiguration: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    self.init(bootLoader: try KnownLoader(from: &reader).loader)
    technique = try reader.read(Technique?.self).map { .named($0) } ?? .automatic
    processorCount = try reader.read()
    processorModel = try Self.value(of: try reader.read(), in: ProcessorModel.all)
    memorySize = try reader.read()
    interruptChips = try Self.value(of: try reader.read(), in: [.automatic, .kernel, .software])
    virtioTransport = try Self.value(of: try reader.read(), in: VirtioTransport.allCases)
    serialPorts = try reader.read()
    virtioConsole = try reader.read()
    storageDevices = try reader.read()
    networkDevices = try reader.read()
    directorySharingDevices = try reader.read()
    entropyDevices = Array(repeating: EntropyDeviceConfiguration(), count: Int(try reader.read(UInt8.self)))
    linuxCommand = try reader.read()
    timeLimit = try reader.read()
    resetPolicy = try reader.read(Bool.self) ? .restart : .end
  }

  func write(to writer: inout WireWriter) {
    writer.write(bootLoader.plan.loader)
    if case .named(let technique) = technique {
      writer.write(Technique?.some(technique))
    } else {
      writer.write(Technique?.none)
    }
    writer.write(processorCount)
    writer.write(ProcessorModel.all.firstIndex(of: processorModel) ?? 0)
    writer.write(memorySize)
    writer.write(interruptChips == .automatic ? 0 : interruptChips == .kernel ? 1 : 2)
    writer.write(VirtioTransport.allCases.firstIndex(of: virtioTransport) ?? 0)
    writer.write(serialPorts)
    writer.write(virtioConsole)
    writer.write(storageDevices)
    writer.write(networkDevices)
    writer.write(directorySharingDevices)
    writer.write(UInt8(clamping: entropyDevices.count))
    writer.write(linuxCommand)
    writer.write(timeLimit)
    writer.write(resetPolicy == .restart)
  }

  private static func value<Value>(of number: Int, in values: [Value]) throws(WireFault) -> Value {
    guard values.indices.contains(number) else { throw WireFault() }
    return values[number]
  }
}

/// The boot loaders that there are, as a value: what a plan was made from.
enum KnownLoader: WireValue {
  case linux(LinuxBootLoader)
  case multiboot(MultibootLoader)
  case xen(XenLoader)
  case flat(FlatLoader)
  case image(ImageLoader)
  case sample(SampleGuest)

  var loader: any BootLoader {
    switch self {
    case .linux(let loader): loader
    case .multiboot(let loader): loader
    case .xen(let loader): loader
    case .flat(let loader): loader
    case .image(let loader): loader
    case .sample(let loader): loader
    }
  }

  init(from reader: inout WireReader) throws(WireFault) {
    switch try reader.read(Int.self) {
    case 0:
      var loader = LinuxBootLoader(kernel: try reader.read(), commandLine: try reader.read())
      loader.initialRamdisks = try reader.read()
      loader.addsDefaultCommandLine = try reader.read()
      self = .linux(loader)
    case 1:
      var loader = MultibootLoader(kernel: try reader.read(), commandLine: try reader.read())
      for _ in 0..<(try reader.count()) {
        loader.modules.append(MultibootLoader.Module(path: try reader.read(), commandLine: try reader.read()))
      }
      self = .multiboot(loader)
    case 2:
      self = .xen(
        XenLoader(kernel: try reader.read(), commandLine: try reader.read(), initialRamdisk: try reader.read()))
    case 3:
      let image = try reader.read(FilePath.self)
      let mode: FlatLoader.Mode =
        switch try reader.read(Int.self) {
        case 0: .real
        case 1: .protected
        default: .long
        }
      self = .flat(FlatLoader(image: image, mode: mode, loadAddress: try reader.read(), entry: try reader.read()))
    case 4: self = .image(ImageLoader(image: try reader.read(), commandLine: try reader.read()))
    case 5: self = .sample(SampleGuest(try reader.read(), commandLine: try reader.read()))
    default: throw WireFault()
    }
  }

  func write(to writer: inout WireWriter) {
    switch self {
    case .linux(let loader):
      writer.write(0)
      writer.write(loader.kernel)
      writer.write(loader.commandLine)
      writer.write(loader.initialRamdisks)
      writer.write(loader.addsDefaultCommandLine)
    case .multiboot(let loader):
      writer.write(1)
      writer.write(loader.kernel)
      writer.write(loader.commandLine)
      writer.write(loader.modules.count)
      for module in loader.modules {
        writer.write(module.path)
        writer.write(module.commandLine)
      }
    case .xen(let loader):
      writer.write(2)
      writer.write(loader.kernel)
      writer.write(loader.commandLine)
      writer.write(loader.initialRamdisk)
    case .flat(let loader):
      writer.write(3)
      writer.write(loader.image)
      writer.write(loader.mode == .real ? 0 : loader.mode == .protected ? 1 : 2)
      writer.write(loader.loadAddress)
      writer.write(loader.entry)
    case .image(let loader):
      writer.write(4)
      writer.write(loader.image)
      writer.write(loader.commandLine)
    case .sample(let loader):
      writer.write(5)
      writer.write(loader.name)
      writer.write(loader.commandLine)
    }
  }
}

extension SerialPortConfiguration: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    self.init(output: try reader.read(), input: try reader.read())
  }

  func write(to writer: inout WireWriter) {
    writer.write(output)
    writer.write(input)
  }
}

extension VirtioConsoleConfiguration: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    self.init(output: try reader.read(), input: try reader.read())
    if try reader.read(Bool.self) { size = (try reader.read(), try reader.read()) }
  }

  func write(to writer: inout WireWriter) {
    writer.write(output)
    writer.write(input)
    writer.write(size != nil)
    if let size {
      writer.write(size.columns)
      writer.write(size.rows)
    }
  }
}

extension StorageDeviceConfiguration: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    self.init(
      path: try reader.read(), isReadOnly: try reader.read(), isSnapshot: try reader.read(),
      queueCount: try reader.read(), domainName: try reader.read())
  }

  func write(to writer: inout WireWriter) {
    writer.write(path)
    writer.write(isReadOnly)
    writer.write(isSnapshot)
    writer.write(queueCount)
    writer.write(domainName)
  }
}

extension NetworkDeviceConfiguration: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    self.init(
      attachment: try reader.read(), macAddress: try reader.read(), queueCount: try reader.read())
  }

  func write(to writer: inout WireWriter) {
    writer.write(attachment)
    writer.write(macAddress)
    writer.write(queueCount)
  }
}

extension NetworkAttachment: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    switch try reader.read(Int.self) {
    case 0: self = .user(forwardings: try reader.read(), reachesLoopback: try reader.read())
    case 1: self = .tap(name: try reader.read(), addresses: try reader.read())
    case 2: self = .socket(path: try reader.read(), addresses: try reader.read())
    default: throw WireFault()
    }
  }

  func write(to writer: inout WireWriter) {
    switch self {
    case .user(let forwardings, let reachesLoopback):
      writer.write(0)
      writer.write(forwardings)
      writer.write(reachesLoopback)
    case .tap(let name, let addresses):
      writer.write(1)
      writer.write(name)
      writer.write(addresses)
    case .socket(let path, let addresses):
      writer.write(2)
      writer.write(path)
      writer.write(addresses)
    }
  }
}

extension NetworkAttachment.PortForwarding: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    let isTCP = try reader.read(Bool.self)
    self.init(
      isTCP ? .tcp : .udp, address: try reader.read(), port: try reader.read(), guestPort: try reader.read())
  }

  func write(to writer: inout WireWriter) {
    writer.write(transport == .tcp)
    writer.write(address)
    writer.write(port)
    writer.write(guestPort)
  }
}

extension NetworkAttachment.Address: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    self.init(try reader.read(), prefixLength: try reader.read(), gateway: try reader.read())
  }

  func write(to writer: inout WireWriter) {
    writer.write(address)
    writer.write(prefixLength)
    writer.write(gateway)
  }
}

extension DirectorySharingDeviceConfiguration: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    self.init(
      path: try reader.read(), tag: try reader.read(), isReadOnly: try reader.read(), mountPoint: try reader.read())
  }

  func write(to writer: inout WireWriter) {
    writer.write(path)
    writer.write(tag)
    writer.write(isReadOnly)
    writer.write(mountPoint)
  }
}

extension LinuxCommand: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    if try reader.read(Bool.self) {
      self.init(shell: try reader.read())
    } else {
      self.init(words: try reader.read([RawWord].self).map(\.bytes))
    }
    root = try reader.read()
    environment = try reader.read()
    workingDirectory = try reader.read()
    user = try reader.read()
    modules = try reader.read()
    standardInput = try reader.read()
    standardOutput = try reader.read()
    standardError = try reader.read()
  }

  func write(to writer: inout WireWriter) {
    switch order {
    case .shell(let text):
      writer.write(true)
      writer.write(text)
    case .words(let words):
      writer.write(false)
      writer.write(words.map { RawWord(bytes: $0) })
    }
    writer.write(root)
    writer.write(environment)
    writer.write(workingDirectory)
    writer.write(user)
    writer.write(modules)
    writer.write(standardInput)
    writer.write(standardOutput)
    writer.write(standardError)
  }
}

extension LinuxCommand.Root: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    let path = try reader.read(FilePath.self)
    switch try reader.read(Int.self) {
    case 0: self.init(path: path, changes: .stayInMemory(limit: try reader.read()))
    case 1: self.init(path: path, changes: .writeThrough)
    case 2: self.init(path: path, changes: .copy)
    default: throw WireFault()
    }
    writable = try reader.read()
  }

  func write(to writer: inout WireWriter) {
    writer.write(path)
    switch changes {
    case .stayInMemory(let limit):
      writer.write(0)
      writer.write(limit)
    case .writeThrough: writer.write(1)
    case .copy: writer.write(2)
    }
    writer.write(writable)
  }
}

/// A word of a command line, of any bytes.
private struct RawWord: WireValue {
  let bytes: [UInt8]

  init(bytes: [UInt8]) { self.bytes = bytes }
  init(from reader: inout WireReader) throws(WireFault) { bytes = try reader.raw() }
  func write(to writer: inout WireWriter) { writer.write(raw: bytes) }
}
