import CLinuxGuest

/// Where a command begins and who it runs as, by two steps of its order:
///
///     folder=PATH            where it begins
///     user=UID:GID:GID,GID   who it runs as: user, group, further groups
struct CommandPlace {
  private var folder: UnsafePointer<CChar>?
  private var user: UnsafePointer<CChar>?

  /// - Parameter steps: stay where they are until the command is begun.
  init(_ steps: UnsafeMutablePointer<UnsafePointer<CChar>?>) {
    var index = 0
    while let step = steps[index] {
      index += 1
      if let path = value(step, "folder=") {
        folder = path
      } else if let numbers = value(step, "user=") {
        user = numbers
      }
    }
  }

  /// Makes this process, which is to become the command, its user's, in its folder.
  func enter() -> Bool {
    if let user, !become(user) {
      complain("the command's user can't be had")
      return false
    }
    guard let folder else { return true }
    guard Linux.call(.chdir, Linux.address(folder)) == 0 else {
      complain("the command's folder can't be entered", folder)
      return false
    }
    return true
  }

  private func become(_ numbers: UnsafePointer<CChar>) -> Bool {
    var position = 0
    func next() -> UInt32 {
      var number: UInt32 = 0
      while numbers[position] >= 0x30, numbers[position] <= 0x39 {
        number = number &* 10 &+ UInt32(numbers[position] - 0x30)
        position += 1
      }
      if numbers[position] != 0 { position += 1 }
      return number
    }
    let (user, group) = (next(), next())
    let groups = UnsafeMutableRawPointer(scratchBuffer()).assumingMemoryBound(to: UInt32.self)
    var count = 0
    while numbers[position] != 0, count < Int(SCRATCH_CAPACITY) / 4 {
      groups[count] = next()
      count += 1
    }
    return Linux.call(.setgroups, count, Linux.address(groups)) == 0 && Linux.call(.setgid, Int(group)) == 0
      && Linux.call(.setuid, Int(user)) == 0
  }
}
