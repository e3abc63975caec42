import Foundation
import TrivisorVMM

/// Through a format outside of this process, with the form's number.
public func throughJSON<State: SavedState>(_ state: State) throws -> State {
  let data = try JSONEncoder().encode(Versioned(state))
  return try JSONDecoder().decode(Versioned<State>.self, from: data).state
}

/// Changes some values of a saved state as an enemy would. `nil` when what comes out has not even the form.
public func spoiled<State: SavedState>(_ state: State, using generator: inout SeededGenerator) throws -> State? {
  let data = try JSONEncoder().encode(state)
  var tree = try JSONSerialization.jsonObject(with: data)
  let count = leaves(of: tree)
  for _ in 0..<Int.random(in: 1...4, using: &generator) {
    var place = Int.random(in: 0..<max(count, 1), using: &generator)
    tree = spoil(tree, at: &place, using: &generator)
  }
  return try? JSONDecoder().decode(State.self, from: JSONSerialization.data(withJSONObject: tree))
}

private func leaves(of tree: Any) -> Int {
  switch tree {
  case let list as [Any]: 1 + list.reduce(0) { $0 + leaves(of: $1) }
  case let fields as [String: Any]: fields.values.reduce(0) { $0 + leaves(of: $1) }
  default: 1
  }
}

private func spoil(_ tree: Any, at place: inout Int, using generator: inout SeededGenerator) -> Any {
  switch tree {
  case var list as [Any]:
    defer { place -= 1 }
    if place == 0 {
      switch Int.random(in: 0..<3, using: &generator) {
      case 0: return []
      case 1: return list + list
      default: return list.dropLast(1).map { $0 }
      }
    }
    place -= 1
    for index in list.indices where place >= 0 { list[index] = spoil(list[index], at: &place, using: &generator) }
    place += 1
    return list
  case var fields as [String: Any]:
    for key in fields.keys.sorted() where place >= 0 {
      fields[key] = spoil(fields[key] ?? 0, at: &place, using: &generator)
    }
    return fields
  default:
    defer { place -= 1 }
    guard place == 0 else { return tree }
    let values: [Any] = [
      0, 1, -1, 3, 7, 8, 16, 32, 255, 256, 65535, 65536, 1 << 31, UInt64(UInt32.max), Int64.max, Int64.min, UInt64.max,
      true, false, generator.next() >> UInt64.random(in: 0..<64, using: &generator),
    ]
    return values[Int.random(in: 0..<values.count, using: &generator)]
  }
}
