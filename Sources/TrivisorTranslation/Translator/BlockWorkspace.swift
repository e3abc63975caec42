/// What the making of one block after the other uses again: lists that keep their memory.
struct BlockWorkspace: ~Copyable {
  var plan = BlockPlan()
  /// What is still to be written behind the main line.
  var cold = ScratchList<ColdPart>()
}
