import TrivisorBoot

/// For tests: whether all that was counted agrees with what the tables say.
extension PageTables {
  /// What is wrong, if anything: an entry that names what is not used so, or fewer references than entries.
  var inconsistency: String? {
    var needed = [UInt32](repeating: 0, count: counts.count)
    for (index, use) in uses.enumerated() where counts[index] > 0 {
      guard let level = use.level else { continue }
      let table = XenMachine.firstFrame + UInt64(index)
      for position in 0..<(level == 3 && levels == 3 ? 4 : 512) as Range<UInt64> {
        guard let entry = frames.entry(table, position)?.pointee, entry & Self.present != 0 else { continue }
        let target = Self.frame(entry)
        guard let place = frames.index(target) else { return "table \(table) names frame \(target), which is none" }
        guard level > 1 else {
          guard entry & Self.writable != 0 else { continue }
          guard self.use(target) == .writable else { return "table \(table) maps \(target), \(self.use(target))" }
          needed[place] += 1
          continue
        }
        let used = self.use(target)
        guard used == .table(level - 1) || used == .table(level) && entry & Self.writable == 0 else {
          return "table \(table) of level \(level) names \(target), \(used)"
        }
        if target != table { needed[place] += 1 }
      }
    }
    for (index, count) in needed.enumerated() where counts[index] < count {
      return "frame \(XenMachine.firstFrame + UInt64(index)) has \(counts[index]) references of \(count)"
    }
    return nil
  }
}
