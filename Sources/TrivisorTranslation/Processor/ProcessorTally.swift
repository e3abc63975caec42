import TrivisorVMM

/// What happened to a processor, and where its time went.
final class ProcessorTally {
  @exclusivity(unchecked) var counters = Counters()
  @exclusivity(unchecked) var ledger = Ledger()
}
