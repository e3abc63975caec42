// The Test Anything Protocol (TAP 12 to 14, KTAP 1) in a console among other lines. Lines that are no TAP are somebody
// else's, as both protocols say. Each level of indentation is a document of its own; the point that follows it one level up
// is its result:
//
//     KTAP version 1                       TAP version 14
//     1..1                                 # Subtest: allocator
//       KTAP version 1                         ok 1 - small
//       # Subtest: allocator                   not ok 2 - large # SKIP no room
//       1..2                                   1..2
//       ok 1 small                         ok 1 - allocator
//       ok 2 large # SKIP no memory        ok 2 - all freed
//     ok 1 allocator                       1..2
//
// Linux' runner of selftests nests by comments ("# ok 1 …") instead; a version line in a comment begins such a document.

/// Gathers test points line by line.
package struct TAPReader {
  /// Reports list no more points than this; more are judged all the same.
  static let pointLimit = 100_000
  /// Nor points of more text, in bytes.
  static let textLimit = 16 << 20
  /// Documents in documents.
  static let depthLimit = 32

  /// Innermost last. The first is the console's own and stays.
  private var open = [TAPDocument(indentation: 0, comments: 0)]
  private var bailOut: String?
  private var listed = 0
  private var listedText = 0
  private var pointsLeftOut = 0
  /// What the last `# Subtest:` says, and where.
  private var header: (indentation: Int, comments: Int, name: String)?
  /// Where the last point stands, if a YAML block may follow it.
  private var blockParent: Int?
  /// The first line of a YAML block.
  private var block: TAPLine?

  package init() {}

  package mutating func read(_ text: ArraySlice<UInt8>) {
    let line = TAPLine(text)
    guard !isOfBlock(line) else { return }
    switch line.content {
    case .blank, .other, .blockEnd: return
    case .blockBegin:
      if let blockParent, line.indentation > blockParent { block = line }
      return
    case .header(let name):
      readHeader(name, line)
    case .bailOut(let reason):
      // What a test of Linux' selftests says in comments ends that test, and its runner goes on.
      if line.comments == 0 { bailOut = bailOut ?? reason }
    case .version(let isKTAP):
      guard let index = document(for: line, mayOpen: true) else { return }
      open[index].begin(isKTAP: isKTAP)
    case .plan(let count, let comment):
      guard let index = document(for: line, mayOpen: line.comments == 0) else { return }
      open[index].setPlan(count, comment: comment)
    case .point(let isOK, let number, let text):
      readPoint(line, isOK: isOK, number: number, text: text)
      blockParent = line.indentation
      return
    }
    blockParent = nil
  }

  /// What all that was read comes to.
  package func conclusion() -> TAPConclusion {
    var whole = self
    whole.close(to: 0)
    var root = whole.open[0]
    root.settle()
    var finding: String?
    if let bailOut {
      finding = "bailed out" + (bailOut.isEmpty ? "" : ": \(bailOut)")
    } else if let first = root.firstBad {
      finding = "\(root.bad) of \(root.count) not ok, the first: \(first)"
    } else {
      finding = root.problem(needsPlan: true)
    }
    return TAPConclusion(
      points: root.points, pointsLeftOut: pointsLeftOut, isEmpty: root.isEmpty && bailOut == nil,
      finding: finding.map { "TAP: " + $0 }, skipReason: root.skipReason)
  }

  /// Whether a line belongs to a YAML block, which it may end. Any line that stands further left ends it too, so that a
  /// block without an end hides no result.
  private mutating func isOfBlock(_ line: TAPLine) -> Bool {
    guard let block else { return false }
    if line.content == .blank { return true }
    guard line.indentation >= block.indentation, line.column >= block.column else {
      self.block = nil
      return false
    }
    if line.content == .blockEnd, line.indentation == block.indentation { self.block = nil }
    return true
  }

  private mutating func readHeader(_ name: String, _ line: TAPLine) {
    // KTAP's follows the version line of its own document, TAP 14's stands above the document.
    if let last = open.indices.last, last > 0, open[last].indentation == line.indentation,
      open[last].comments == line.comments, open[last].takesName
    {
      open[last].name = name
    } else {
      header = (line.indentation, line.comments, name)
    }
  }

  private mutating func readPoint(_ line: TAPLine, isOK: Bool, number: Int?, text: TAPText) {
    guard let index = document(for: line, mayOpen: line.comments == 0) else { return }
    close(to: index)
    if header.map({ $0.indentation >= line.indentation }) ?? false { header = nil }
    let point = TAPPoint(
      number: number ?? open[index].count + 1, description: text.description, isOK: isOK, directive: text.directive,
      explanation: text.explanation)
    let size = point.description.utf8.count + point.explanation.utf8.count
    let isKept = listed < Self.pointLimit && listedText + size <= Self.textLimit
    if isKept {
      listed += 1
      listedText += size
    } else {
      pointsLeftOut += 1
    }
    open[index].add(point, name: text.name, isKept: isKept)
  }

  /// Which document a line belongs to: the open one of its indentation, or a new one.
  private mutating func document(for line: TAPLine, mayOpen: Bool) -> Int? {
    if let index = open.lastIndex(where: { $0.indentation == line.indentation && $0.comments == line.comments }) {
      return index
    }
    // In comments only a version line begins a document, and only what is in one may nest.
    guard mayOpen || open.contains(where: { $0.comments == line.comments && $0.indentation < line.indentation }) else {
      return nil
    }
    let parent = open.lastIndex { $0.indentation < line.indentation } ?? 0
    close(to: parent)
    guard open.count < Self.depthLimit else {
      open[0].note("subtests more than \(Self.depthLimit - 1) deep")
      return nil
    }
    var document = TAPDocument(indentation: line.indentation, comments: line.comments)
    if let header, header.comments == line.comments, header.indentation <= line.indentation {
      document.name = header.name
      self.header = nil
    }
    // What stood deeper is this document's, whose first line comes only now.
    if let subtest = open[parent].release() { document.adopt(subtest) }
    open.append(document)
    return open.count - 1
  }

  /// Ends all documents inside one.
  private mutating func close(to index: Int) {
    while open.count > index + 1 {
      var document = open.removeLast()
      document.settle()
      open[open.count - 1].adopt(document.ended())
    }
  }
}

/// What a console's test points come to.
package struct TAPConclusion {
  /// In the order of the console.
  let points: [TAPPoint]
  /// How many more there were than are listed, subtests' included.
  let pointsLeftOut: Int
  /// Whether the console holds no TAP at all.
  let isEmpty: Bool
  /// Why the whole is no success, or `nil` if it is.
  let finding: String?
  /// Why nothing was tested, if the plan says so.
  let skipReason: String?
}
