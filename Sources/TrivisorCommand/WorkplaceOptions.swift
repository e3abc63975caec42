import ArgumentParser
import SystemPackage
import TrivisorLinuxCommands

/// Options of `trivisor run` for Linux guests that somebody works in: the host's folders, the kernel's modules, and what
/// surrounds a command.
struct WorkplaceOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      A folder of the host's as Linux's first root. With a command it is the folder itself, by virtio-fs, and what the guest \
      writes stays in the guest's memory; ,rw writes through, ,rw=PATH does so for one folder of it. With ,copy, or without a \
      command, it is a copy in memory. Or an archive (tar; gzip, xz, zstd) or an OCI image: unpacked into the cache once; an image's \
      entry point runs unless --exec says otherwise.
      """, valueName: "folder|image[,rw|,copy|,rw=path]"),
    completion: .directory)
  var root: String?

  @Option(
    help: ArgumentHelp(
      "With --root: how much the guest can write to it, in its memory. Default: half of the memory.", valueName: "size")
  )
  var rootSize: MemorySize?

  @Option(
    help: ArgumentHelp(
      """
      A folder of the host's for the guest, by virtio-fs; with a command mounted at PATH, /mnt/NAME unless said. The tag is \
      by which other guests mount it: the folder's name unless said. With ,ro the guest can't write.
      """, valueName: "folder[,at=path][,tag=t][,ro]"),
    completion: .directory)
  var share: [String] = []

  @Option(
    help: ArgumentHelp("A path of the host's that no shared folder shows, nor --root.", valueName: "path"),
    completion: .file())
  var hide: [String] = []

  @Option(
    help: ArgumentHelp(
      "The kernel's modules: lib/modules/RELEASE, or a folder that holds it. Default: looked for beside the image.",
      valueName: "folder"),
    completion: .directory)
  var modules: String?

  @Option(
    help: ArgumentHelp(
      "The command's folder in the guest. Default: this one if it is in --root, else /.", valueName: "path"))
  var cwd: String?

  @Option(
    help: ArgumentHelp(
      "A variable for the command's environment; without a value, this one's. None but TERM pass by themselves.",
      valueName: "name[=value]"))
  var env: [String] = []

  @Option(
    help: ArgumentHelp(
      "Who runs the command, by the root's etc/passwd or by number: root unless said.", valueName: "user[:group]"))
  var user: String?

  /// As the library takes them.
  var workplace: Workplace {
    get throws(Refusal) {
      var workplace = Workplace()
      workplace.root = try root.map { text throws(Refusal) in try RootArgument.root(text) }
      workplace.rootSize = rootSize?.bytes
      workplace.shares = try share.map { text throws(Refusal) in try ShareArgument.share(text) }
      workplace.hidden = hide.map { FilePath($0) }
      workplace.modules = modules.map { FilePath($0) }
      workplace.folder = cwd
      workplace.environment = env
      workplace.user = user
      return workplace
    }
  }
}
